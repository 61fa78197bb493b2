"""A few lines about a report, for the person who reads it: how many are in it, how many not and why, what the columns mean.

No learner's data is in it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from progress_exhaust.report import text
from progress_exhaust.report.columns import columns
from progress_exhaust.report.left_out import LEFT_OUT, NOT_ENROLLED
from progress_exhaust.report.pivot import Report

SUMMARY_FILE = "summary.txt"
NO_ROOM = "An Excel sheet has no room for this many rows or columns: this is the csv instead."
CUT = "Excel holds 32,767 characters in a cell: longer texts are cut in {:,} cells. The csv has them whole."


def summary_text(report: Report, counts: Mapping[str, int], as_of: datetime, file_name: str, notes: Iterable[str] = ()) -> str:
    """Return the summary of a report's file.

    counts: as the extract left them, `enrolled`, `reported`, `missing` and `excluded.<reason>`.
    """
    zone = report.rules.report_timezone
    left_out = [reason for reason in LEFT_OUT if reason not in NOT_ENROLLED]
    lines = [
        f"Progress of {report.facts.collection_name or 'the collection'} ({report.batch.collection_id})",
        f"Batch {report.facts.batch_name or 'without a name'} ({report.batch.batch_id})",
        f"File {file_name}",
        f"As of {as_of.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone}): later changes are not in it",
        *notes,
        "",
        f"Enrolled learners: {counts.get('enrolled', 0):,}",
        f"Learners in the file: {counts.get('reported', 0):,}",
        *_by_reason("Left out", left_out, counts),
    ]
    blank = counts.get("missing", 0) - counts.get("excluded.missing", 0)
    if blank:
        lines.append(f"In the file with a blank profile, for none is known: {blank:,}")
    lines += _by_reason("Not counted as enrolled", NOT_ENROLLED, counts)
    lines += ["", "Columns", *(f"  {column.label}: {column.meaning}" for column in columns(report))]
    return "".join(f"{text.clean(line)}\r\n" for line in lines)


def _by_reason(title: str, reasons: Iterable[str], counts: Mapping[str, int]) -> list[str]:
    found = {reason: counts[f"excluded.{reason}"] for reason in reasons if f"excluded.{reason}" in counts}
    return [f"{title}: {sum(found.values()):,}", *(f"  {number:,} {LEFT_OUT[reason]}" for reason, number in found.items())]
