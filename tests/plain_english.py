"""Find expressions that are hard to understand, in the texts of the code.

    python -m tests.plain_english [FOLDER …]

It reads string literals, docstrings, comments and names of functions and classes in Python, Markdown without its code, and whole
files of other kinds. It prints one line per expression, with what to write instead. Data that is quoted, as from another program,
may stand in a line with the mark `plain-english: quoted`.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MARK = "plain-english: quoted"
KINDS = {".css", ".cql", ".html", ".js", ".md", ".sql"}
# This file and its test name the expressions that they look for.
EXEMPT = {"tests/plain_english.py", "tests/unit/test_plain_english.py"}
# A folder is checked with all that is below it, but `tests` only with the files that are directly in it.
FOLDERS = (
    "Makefile", "plugins", "dags", "dev", "benchmarks", "tests", "tests/unit", "tests/dag", "tests/drivers", "tests/integration",
    "tests/servers", "tests/stores", "tests/faults", "tests/history", "tests/interleavings",
    "docs", "README.md", "CONTRIBUTING.md",
)  # fmt: skip
# The one list: an expression, and what to write instead.
WORD_LIST = {
    r"(?<!there\s)(?:is|are|was|were) no\b(?! longer)": "is not a …, is not valid, does not support",
    r"(?:is|are|was|were) none\b": "is not valid, is not one of",
    r"(?:know|knows|knew) (?:no|none|nothing)\b": "does not know, does not support",
    r"mend(?:s|ed|ing)?": "fix, fixed",
    r"in words": "reports, fails with the message …",
    r"(?:tells|telling|told)": "report, say, show",
    r"tell(?! whether| apart| if\b)": "report, say, show",
    r"news": "report, progress, change",
    r"anew": "again, restart",
    r"begun": "started",
    r"of before": "previous, before",
    r"has the say": "only the newest attempt may write",
    r"no retry can": "permanent error",
    r"(?:left|leave|leaves|leaving) out": "excluded",
    r"alike": "the same, in both",
    r"twins?": "duplicate",
    r"at work": "running",
    r"gone": "deleted, missing",
    r"(?:is|are|was|were) over": "has ended, finished",
    r"dead": "lost, ended, not running",
    r"who may not": "users without permission",
    r"(?:strangers?|anybody|nobody|somebody|whoever)": "users without permission, anonymous users, no one, a user",
    r"(?:lie|lies|lay|lying) (?:at|in|on|below|under|there|beside)": "is stored in, is in",
    r"(?:beside)": "in addition to, with, next to",
    r"(?:hand|hands|handed|handing) on": "pass to",
    r"(?:take|takes|taken|took|taking) over": "resume, claim",
    r"(?:left|leave|leaves|leaving) behind": "write, remain",
    r"for want of": "because of a lack of",
}
# A line may end within an expression.
PATTERN = re.compile(
    "|".join(rf"(?P<_{number}>\b{one}\b)" for number, one in enumerate(WORD_LIST)).replace(" ", r"\s+"), re.IGNORECASE
)
QUOTED_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)  # in Markdown: where the code is written, it is checked
INSTEAD = list(WORD_LIST.values())


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    expression: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.expression!r}; write: {self.instead}"


def findings_in_folder(folder: str) -> list[Finding]:
    """Return the findings of one of FOLDERS."""
    place = PROJECT / folder
    files = [place] if place.is_file() else sorted(place.glob("*" if folder == "tests" else "**/*"))
    names = [(file, file.relative_to(PROJECT).as_posix()) for file in files if file.is_file()]
    return [
        finding
        for file, name in names
        if (file.suffix in {".py", *KINDS} or file.name == "Makefile") and name not in EXEMPT and "node_modules" not in name
        for finding in findings(name, file.read_text())
    ]


def findings(path: str, source: str) -> list[Finding]:
    """Return the expressions of the list in a file's texts."""
    if path.endswith(".md"):
        source = QUOTED_CODE.sub(lambda code: "\n" * code[0].count("\n"), source)
    lines = source.splitlines()
    found = []
    for first_line, text in python_texts(source) if path.endswith(".py") else [(1, source)]:
        for match in PATTERN.finditer(re.sub(r'[#"]', " ", text)):
            line = first_line + text.count("\n", 0, match.start())
            if MARK not in lines[line - 1]:
                found.append(Finding(path, line, " ".join(match[0].split()), INSTEAD[int((match.lastgroup or "_0")[1:])]))
    return found


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield strings, comments and names of a Python file, each with its line; pieces that follow each other are one text."""
    yield from names(source)
    piece_kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    between = {tokenize.NL, tokenize.NEWLINE, getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)}
    kind, first_line, last_line, text = -1, 0, 0, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in piece_kinds:
            if token.type == kind and token.start[0] - last_line < 2:
                text += "\n" * (token.start[0] - last_line) + token.string
            else:
                yield first_line, text
                kind, first_line, text = token.type, token.start[0], token.string
            last_line = token.end[0]
        elif token.type not in between:
            yield first_line, text
            kind, text = -1, ""
    yield first_line, text


def names(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.lineno, re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", node.name)


def main(folders: list[str]) -> None:
    found = [finding for folder in folders or FOLDERS for finding in findings_in_folder(folder)]
    for finding in found:
        print(finding)
    counts = Counter(finding.path.split("/")[0] for finding in found)
    print(f"findings={len(found)} " + " ".join(f"{folder}={count}" for folder, count in counts.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
