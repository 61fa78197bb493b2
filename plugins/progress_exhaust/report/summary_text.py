"""Write a short text about a report for its readers: how many learners it has, how many are excluded and why, its columns.

The text has no data of a learner.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from progress_exhaust.report import text
from progress_exhaust.report.columns import Column, columns
from progress_exhaust.report.eligibility import Exclusion
from progress_exhaust.report.excluded import CONTENT_COUNTS, EXCLUDED, NOT_ENROLLED
from progress_exhaust.report.report import Report

NO_ROOM = "There is only a csv, because an Excel sheet does not have enough rows or columns for this report."
CUT = "An Excel cell holds 32,767 characters: in {:,} cells a longer text was cut. A csv has the whole texts."


def summary_text(report: Report, counts: Mapping[str, int], as_of: datetime, file_name: str, notes: Iterable[str] = ()) -> str:
    """Return the summary of a report.

    :param counts: of extract: `enrolled`, `reported`, `missing` and `excluded.<reason>`; `inactive` if the layout includes them
    :param as_of: when the data was read
    :param notes: lines to add below that time
    """
    zone = report.rules.report_timezone
    excluded = [reason for reason in EXCLUDED if reason not in NOT_ENROLLED]
    lines = [
        f"Progress of {report.facts.collection_name or 'the collection'} ({report.batch.collection_id})",
        f"Batch {report.facts.batch_name or 'without a name'} ({report.batch.batch_id})",
        f"File {file_name}",
        f"As of {as_of.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone}): later changes are not included",
        *notes,
        "",
        f"Enrolled learners: {counts.get('enrolled', 0):,}",
        *([f"  {counts['inactive']:,} with an inactive enrolment"] if "inactive" in counts else []),
        f"Learners in the file: {counts.get('reported', 0):,}",
        *_by_reason("Excluded learners", excluded, counts),
    ]
    blank = counts.get("missing", 0) - counts.get(Exclusion.MISSING.count_name, 0)
    lines.append(f"Learners in the file without a known profile (blank cells): {blank:,}")
    lines += _by_reason("Not counted as enrolled", NOT_ENROLLED, counts)
    lines += ["Scores and contents", *(f"  {counts.get(name, 0):,} {meaning}" for name, meaning in CONTENT_COUNTS.items())]
    if report.layout.removed_contents == "excluded":
        lines[-1] += " (they do not count for Progress)"
    lines += ["", "Columns", *(f"  {column.label}: {column.meaning}{_blank(column)}" for column in columns(report))]
    return "".join(f"{text.clean(line)}\r\n" for line in lines)


def _blank(column: Column) -> str:
    return f". Blank: {column.blank}" if column.blank else ""


def _by_reason(title: str, reasons: Iterable[Exclusion], counts: Mapping[str, int]) -> list[str]:
    found = {reason: counts.get(reason.count_name, 0) for reason in reasons}
    return [f"{title}: {sum(found.values()):,}", *(f"  {number:,} {EXCLUDED[reason]}" for reason, number in found.items())]
