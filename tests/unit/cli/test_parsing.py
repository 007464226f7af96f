import pytest

from cifl_tf.cli.parsing import parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, None),
        ("2G", 2 * 10**9),
        ("800M", 8 * 10**8),
        ("1.5 GB", 15 * 10**8),
        ("3gib", 3 * 10**9),
        ("64k", 64_000),
        ("1T", 10**12),
    ],
)
def test_sizes_of_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "2", "G", "-1G", "0G", "1e3M", "nan", "2 X", "1,5G", "inf"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(
        ValueError, match=r"--memory is '.*'; give a size with its unit, such as 2G"
    ):
        parse_memory(text)
