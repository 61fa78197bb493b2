"""How the messages of the code are collected."""

import ast
import re

from tests.messages import ERRORS, PACKAGE, PAGE, _messages

SOURCE = """
PLACE = "here"
HINT = "Fix it"

class TooHeavyError(SourceError): ...

def f(name):
    raise SetupError(f"{name} is not {PLACE}. " f"{HINT}")
    raise (TooHeavyError if name else SourceError)("too heavy" + name)
    raise kind(f"no answer: {name}{name}")
    raise ValueError("of another kind")
    other("not raised")
"""


def test_a_message_has_dots_for_its_values() -> None:
    found = [text for _, text in _messages(ast.parse(SOURCE), {*ERRORS, "TooHeavyError"})]
    assert sorted(found) == ["no answer: …", "too heavy…", "… is not here. Fix it"]


def test_the_warnings_of_the_page_are_those_of_the_code() -> None:
    table = PAGE.read_text().partition("\n## Warnings in the log\n")[2]
    rows = re.findall(r"^\| (\*.+?\*) \|", table, re.MULTILINE)
    trees = (ast.parse(file.read_text()) for file in PACKAGE.rglob("*.py"))
    texts = [str(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    parts = [part.strip() for row in rows for text in re.findall(r"\*(.+?)\*", row) for part in re.split("…|COLUMN|N|=2", text)]
    assert len(rows) > 5
    assert [part for part in parts if not any(part in text for text in texts)] == []
