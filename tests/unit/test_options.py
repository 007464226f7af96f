from cifl_tf._options import attribute_docs


class Documented:
    """A class.

    Attributes:
        one: text
            over two lines: with a colon.
        two, three: shared. More.
        four: last.

    Raises:
        five: is no attribute.
    """


class Undocumented:
    pass


def test_docs_of_attributes():
    assert attribute_docs(Documented) == {
        "one": "text over two lines: with a colon.",
        "two": "shared. More.",
        "three": "shared. More.",
        "four": "last.",
    }
    assert attribute_docs(Undocumented) == {}
