"""What all commands have in common: their help, tables, JSON, errors and exit statuses."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NoReturn, TextIO, TypeAlias

from progress_exhaust.page.formatting import format_duration

PROGRAM = "progress-exhaust"


class ExitStatus(IntEnum):
    """How a command ends (docs/reference/commands.md)."""

    YES = 0  # the command has done or found what was asked for
    NO = 1  # the command worked, and has not done or found it
    INVALID_INPUT = 2
    NOT_WORKING = 3  # a server, a connection, a setting or the disk


class Parser(argparse.ArgumentParser):
    """A parser that prints errors as the commands do."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print_error(message)
        sys.exit(ExitStatus.INVALID_INPUT)


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, summary: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    """Add a command with the option --json, and with examples in its help; return its parser."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON for a script")
    return parser


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print_line((indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print a line. Replace the characters that could control the terminal or break the line."""
    print("".join(character if character.isprintable() else " " for character in text), file=file)


def print_json(value: Any) -> None:
    """Print a value as JSON, in one line. A time becomes a text in ISO form."""
    print_line(json.dumps(value, default=datetime.isoformat))


def print_error(message: str) -> None:
    """Print an error to standard error, in the form of all commands."""
    print_line(f"{PROGRAM}: error: {message}", sys.stderr)


def confirm(question: str) -> bool:
    """Ask a person; return whether the answer is y. Without a terminal to answer from, it is not."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():  # no terminal has shown the end of the line
        print(file=sys.stderr)
    return answer.strip().lower() == "y"


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Send to standard error what is printed in the block, also by a logger that holds standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def age(timestamp: datetime | None) -> str:
    return format_duration((datetime.now(UTC) - timestamp).total_seconds() if timestamp else None)
