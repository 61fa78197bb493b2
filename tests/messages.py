"""Collect the messages that the package can raise, and those that the docs explain.

    python -m tests.messages

It prints the messages that docs/reference/messages.md lacks, and those of the page that the code does not raise any more. In a
message, … stands for a value.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "plugins" / "progress_exhaust"
PAGE = PROJECT / "docs" / "reference" / "messages.md"
ERRORS = {"RequestError", "SetupError", "SourceError", "OverLimitError", "ClaimLostError", "AirflowFailException"}
# In these folders a ValueError becomes a SetupError with the same text.
VALIDATORS = ("settings/", "report/layout", "report/columns")


def raised() -> dict[str, str]:
    """Return every message with the place that raises it."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        tree = ast.parse(file.read_text())
        errors = ERRORS | ({"ValueError"} if name.startswith(VALIDATORS) else set())
        for line, text in _messages(tree, errors):
            if re.search(r"\w", text.replace("…", "")):
                found[text] = f"{name}:{line}"
    return found


def explained() -> set[str]:
    """Return every message of the page: the first cell of a row of its tables."""
    rows = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(), re.MULTILINE)
    return {row.replace("\\|", "|") for row in rows}


def _messages(tree: ast.Module, errors: set[str]) -> Iterator[tuple[int, str]]:
    constants = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors and node.args:
            yield node.lineno, " ".join(re.sub("…+", "…", _template(node.args[0], constants)).split())


def _template(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    if isinstance(node, ast.Name) and node.id in constants:
        return _template(constants[node.id], {})
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        text = _template(node.left, constants) + _template(node.right, constants)
    elif isinstance(node, ast.JoinedStr):
        text = "".join(
            _template(part.value, {name: value for name, value in constants.items() if name.isupper()})
            if isinstance(part, ast.FormattedValue)
            else _template(part, {})
            for part in node.values
        )
    elif isinstance(node, ast.Constant):
        text = str(node.value)
    else:
        text = "…"
    return text


def main() -> None:
    messages, page = raised(), explained() if PAGE.exists() else set()
    for text, place in messages.items():
        if text not in page:
            print(f"missing  {place}  {text}")
    for text in sorted(page - messages.keys()):
        print(f"stale  {text}")


if __name__ == "__main__":
    main()
