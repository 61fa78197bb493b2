"""The command `compare`: whether two files of a report have the same learners and cells. It needs no Airflow."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from progress_exhaust import cli_output as output
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import InputError, SetupError

if TYPE_CHECKING:
    from progress_exhaust.compare.comparison import Comparison, Difference, Example, FileFacts
    from progress_exhaust.reading.report_file import ReportFile

DEFAULT_TIME_ZONE = "Asia/Kolkata"  # of the setting report_timezone
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def add_command(commands: output.Commands) -> None:
    """Add the command to the parser."""
    compare = output.add_command(
        commands,
        "compare",
        "compare two files of a report: learners, columns and cells",
        [
            "progress-exhaust compare SPARK.zip AIRFLOW.zip",
            "progress-exhaust compare SPARK.zip AIRFLOW.zip --old-key-file PASSWORD_FILE --json",
        ],
    )
    compare.add_argument("old", type=Path, metavar="OLD", help="zip or csv, such as that of the Spark job")
    compare.add_argument("new", type=Path, metavar="NEW", help="zip or csv of this package")
    for name in ("old", "new"):
        compare.add_argument(
            f"--{name}-key-file",
            type=Path,
            metavar="FILE",
            help=f"file with the password, the text of the request, or the private key (PEM) that opens {name.upper()}. "
            f"Without it, the environment variable PROGRESS_EXHAUST_{name.upper()}_KEY",
        )
    compare.add_argument("--learner-column", default="User UUID", metavar="LABEL", help="column of the learner's id: %(default)s")
    compare.add_argument(
        "--timezone", default=DEFAULT_TIME_ZONE, help="report_timezone of the settings, for dates of the Spark job: %(default)s"
    )
    compare.add_argument(
        "--examples", type=int, default=3, metavar="NUMBER", help="rows to show for each column and reason: %(default)s"
    )
    compare.add_argument("--show-cells", action="store_true", help="show the cells of the examples: they are data of learners")
    compare.set_defaults(command=compare_files)


def compare_files(parsed: argparse.Namespace) -> int:
    """Print how two files differ. Return YES if no difference is unknown, else NO.

    Raises InputError if a file or an option is not valid, SetupError if the temporary folder is full or missing.
    """
    from progress_exhaust.compare.comparison import compare_reports
    from progress_exhaust.report.layout import is_time_zone

    if not is_time_zone(parsed.timezone):
        raise InputError(f"--timezone {parsed.timezone!r} is not an IANA time zone, such as Asia/Kolkata")
    try:
        comparison = compare_reports(
            _report_file("OLD", parsed.old, parsed.old_key_file),
            _report_file("NEW", parsed.new, parsed.new_key_file),
            key_label=parsed.learner_column,
            time_zone=parsed.timezone,
            max_examples=parsed.examples,
        )
    except OSError as error:
        raise SetupError(f"{error.strerror}. Rows are stored in the temporary folder: set TMPDIR to one with space") from None
    if parsed.json:
        output.print_json(_as_json(comparison, show_cells=parsed.show_cells))
    else:
        _print(comparison, show_cells=parsed.show_cells)
    return ExitStatus.NO if comparison.unknown else ExitStatus.YES


def _report_file(name: str, path: Path, key_file: Path | None) -> "ReportFile":
    from progress_exhaust.reading.report_file import ReportFile, read_key

    variable = f"PROGRESS_EXHAUST_{name}_KEY"
    key = read_key(key_file, of=name) if key_file else os.environ.get(variable)
    return ReportFile(name, path, key, key_source=f"--{name.lower()}-key-file or {variable}")


def _as_json(comparison: "Comparison", *, show_cells: bool) -> dict[str, object]:
    def shown(differences: "Sequence[Difference]") -> list[dict[str, object]]:
        return [asdict(one) | {"examples": [_example(example, show_cells) for example in one.examples]} for one in differences]

    return {
        "equal": not comparison.differences,
        "unknown_differences": sum(one.count for one in comparison.unknown),
        "known_differences": sum(one.count for one in comparison.known),
        "learners_in_both": comparison.learners_in_both,
        "same_row_order": comparison.same_row_order,
        "old": asdict(comparison.old),
        "new": asdict(comparison.new),
        "unknown": shown(comparison.unknown),
        "known": shown(comparison.known),
    }


def _example(example: "Example", show_cells: bool) -> dict[str, object]:
    rows: dict[str, object] = {"old_row": example.old_row, "new_row": example.new_row}
    return rows | ({"old": example.old, "new": example.new} if show_cells else {})


def _print(comparison: "Comparison", *, show_cells: bool) -> None:
    for name, facts in (("OLD", comparison.old), ("NEW", comparison.new)):
        output.print_line(f"{name}  {_facts(facts)}")
    order = "" if comparison.same_row_order else ". The rows are in another order"
    output.print_line(f"{comparison.learners_in_both:,} learners in both{order}")
    unknown, known = sum(one.count for one in comparison.unknown), sum(one.count for one in comparison.known)
    output.print_line(f"Unknown differences: {unknown:,}")
    _print_differences(comparison.unknown, show_cells)
    output.print_line(f"Known differences: {known:,}")
    _print_differences(comparison.known, show_cells)
    if known:
        output.print_line(f"Reasons: {docs_page('how-to/migrate-from-the-spark-job', 'compare-the-files')}")


def _print_differences(differences: "Sequence[Difference]", show_cells: bool) -> None:
    if differences:
        rows = [
            (
                one.column or "(rows)",
                one.reason,
                f"{one.count:,}",
                ", ".join(_place(example, show_cells and one.column is not None) for example in one.examples),
            )
            for one in differences
        ]
        output.print_table(("COLUMN", "REASON", "COUNT", "ROWS OF OLD AND NEW"), rows, indent="  ")


def _place(example: "Example", show_cells: bool) -> str:
    rows = f"{example.old_row or '-'} and {example.new_row or '-'}"
    return f"{rows}: {example.old!r} and {example.new!r}" if show_cells else rows


def _facts(facts: "FileFacts") -> str:
    form = [facts.line_end, DELIMITER_NAMES[facts.delimiter]]
    form += ["BOM"] * facts.bom + ["Spark's quotes"] * facts.spark_quotes
    several = f", {facts.learners_with_several_rows:,} learners with several rows" if facts.learners_with_several_rows else ""
    layout = facts.layout or "of its own"
    return f"{facts.protection}, {facts.rows:,} rows, {facts.columns} columns, layout {layout}, {', '.join(form)}{several}"
