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
ERRORS = {
    *("RequestError", "SetupError", "SourceError", "OverLimitError", "ClaimLostError", "ConflictError", "InputError"),
    "AirflowFailException",
}
FINDINGS = {"warned", "failed"}  # these functions make a finding of a check
# In these folders a ValueError becomes a SetupError with the same text.
VALIDATORS = ("settings/", "report/layout", "report/columns")


def raised() -> dict[str, str]:
    """Return every message with the place that raises it."""
    found = {}
    trees = {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
    own = ERRORS | FINDINGS | {error for tree in trees.values() for error in _subclasses(tree)}
    for name, tree in trees.items():
        errors = own | ({"ValueError"} if name.startswith(VALIDATORS) else set())
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
    raised_calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and (_names_error(node.func, errors) or _may_be(node, raised_calls)):
            yield node.lineno, " ".join(re.sub("…+", "…", _template(node.args[0], constants)).split())


def _subclasses(tree: ast.Module) -> set[str]:
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {node.name for node in classes if any(isinstance(base, ast.Name) and base.id in ERRORS for base in node.bases)}


def _names_error(function: ast.expr, errors: set[str]) -> bool:
    return isinstance(function, ast.Name) and function.id in errors


def _may_be(node: ast.Call, raised_calls: list[ast.expr | None]) -> bool:
    """Return whether a call that is raised may make an error of ours: by a function, or by a class that depends on something."""
    made_here = isinstance(node.func, ast.IfExp) or (isinstance(node.func, ast.Name) and node.func.id.islower())
    return node in raised_calls and made_here


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
