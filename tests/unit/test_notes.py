import warnings

import pytest

from cifl_tf._notes import Note, listed, note, note_left_out, printed_notes, recorded_notes


def test_few_names_of_many():
    assert listed("abc") == "a, b, c"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"


def test_what_is_left_out():
    with pytest.warns(Note, match=r"^1 of 3 subjects of data are .* left out: sub-01 \(no T1w\)$"):
        note_left_out("data", {"sub-01": "no T1w"}, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note_left_out("data", {}, 3)


def test_notes_are_recorded_and_shown():
    texts = []
    with warnings.catch_warnings(record=True) as shown, recorded_notes(texts):
        note("the first session is taken")
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert texts == ["the first session is taken"]
    assert [str(each.message) for each in shown] == [*texts, "something else"]


def test_notes_name_what_they_are_on():
    def shown(text, *names):
        with warnings.catch_warnings(record=True) as found, recorded_notes(texts := [], names):
            note(text)
        assert texts == [text]
        return str(found[0].message)

    assert shown("too coarse", "/a/x.nii", "/b/y.nii") == "/a/x.nii to /b/y.nii: too coarse"
    assert shown("y.nii is too coarse", "/a/x.nii", "/b/y.nii") == "y.nii is too coarse"
    assert shown("too coarse", "/a/two\nlines.nii") == "/a/two lines.nii: too coarse"
    assert shown("too coarse") == "too coarse"


def test_notes_of_commands_are_lines(capsys):
    with warnings.catch_warnings(record=True) as others:
        with printed_notes():
            for _ in range(2):  # every time, not the first time only
                note("the first session is taken")
            warnings.warn("something else", UserWarning, stacklevel=1)
        assert [str(other.message) for other in others] == ["something else"]
    assert capsys.readouterr().err == "Note: the first session is taken\n" * 2
