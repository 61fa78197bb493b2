"""The texts of the code use no expression of the word list in tests/plain_english.py."""

import pytest

from tests.plain_english import FOLDERS, MARK, findings, findings_in_folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_text_is_hard_to_understand(folder: str) -> None:
    assert list(map(str, findings_in_folder(folder))) == []


@pytest.mark.parametrize(
    ("source", "expressions"),
    [
        ('def f():\n    """Say it in\n    words."""', [(2, "in words")]),
        ("# It is\n# gone.\nx = 1  # fine", [(2, "gone")]),
        ('raise E("the key " "is no" f" key: {key}")', [(1, "is no")]),
        ("def test_it_is_left_out(): ...", [(1, "left out")]),
        ('x = "There is no key. It is no longer here."', []),
        (f'x = "gone"  # {MARK}', []),
        ("gone = dead + 1", []),
    ],
)
def test_where_an_expression_is_found(source: str, expressions: list[tuple[int, str]]) -> None:
    assert [(one.line, one.expression) for one in findings("x.py", source)] == expressions


def test_markdown_is_read_without_its_code() -> None:
    [found] = findings("x.md", "```\ngone\n```\nThe `dead` file\nis gone.")
    assert (found.line, found.expression) == (5, "gone")


def test_templates_are_read_as_text() -> None:
    [found] = findings("x.html", "<p>\nNobody is here.")
    assert (found.line, found.expression) == (2, "Nobody")
