"""How the messages of the code are collected."""

import ast

from tests.messages import ERRORS, _messages

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
