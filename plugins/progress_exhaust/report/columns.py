"""The columns of a report: each is an object with a label and a function that makes its cells."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report import text
from progress_exhaust.report.cells import Learners
from progress_exhaust.report.hierarchy import ColumnNode
from progress_exhaust.report.layout import EXCEL_TEXT, FIRST, PROGRESS_ENDING, SCORE_ENDING, STANDARD_DATE, LayoutColumn
from progress_exhaust.report.options import ColumnLabels, ScoreFormat
from progress_exhaust.report.report import Report

Cells: TypeAlias = "pa.Array | str"  # a single text if all rows have the same one
# Only this package writes numbers, so they are never cleaned or quoted. A date may be any text.
Kind = Literal["text", "number", "date"]

NOT_IN_PROFILE = "not in the learner's profile, or the profile is not known"
OR_NO_MAXIMUM = "or a maximum score is not known"
FULL = "100"  # percent


@dataclass(frozen=True)
class Column:
    """A column of the report."""

    label: str
    kind: Kind
    meaning: str
    cells: Callable[[Learners], Cells]
    blank: str  # what a blank cell means; empty: a cell is never blank
    pattern: str = ""  # of a date
    excel_text: bool = False  # in a csv, an apostrophe stands before each cell that is not blank
    node: ColumnNode | None = None  # the nested collection or assessment that it is about
    max_score: str = ""  # empty: unknown, or not a score


# By field: kind, meaning, meaning of a blank, and the function that makes the cells.
FIELDS: dict[str, tuple[Kind, str, str, Callable[[Learners, LayoutColumn], Cells]]] = {
    "collection_id": ("text", "id of the collection", "", lambda learners, _: learners.report.batch.collection_id),
    "collection_name": (
        "text",
        "name of the collection",
        "the collection has no name",
        lambda learners, _: learners.report.facts.collection_name,
    ),
    "batch_id": ("text", "id of the batch", "", lambda learners, _: learners.report.batch.batch_id),
    "batch_name": ("text", "name of the batch", "the batch has no name", lambda learners, _: learners.report.facts.batch_name),
    "user_id": ("text", "id of the learner", "", lambda learners, _: learners.text("user_id")),
    "user_name": ("text", "first and last name of the learner", NOT_IN_PROFILE, lambda learners, _: learners.user_names()),
    "enrolment_date": (
        "date",
        "when the learner enrolled",
        "the date cannot be read",
        lambda learners, column: learners.enrolment_dates(column.format or STANDARD_DATE),
    ),
    "completion_date": (
        "date",
        "when the learner completed the collection",
        "not completed",
        lambda learners, column: learners.completion_dates(column.format or STANDARD_DATE),
    ),
    "enrolment_status": ("text", "active or inactive", "", lambda learners, _: learners.enrolment_statuses()),
    "progress": (
        "number",
        "completed contents of the collection, in percent",
        "the collection has no contents",
        lambda learners, _: learners.progress(),
    ),
    "certificate_status": (
        "text",
        "Issued, or Failed (the certificate could not be issued)",
        "no certificate",
        lambda learners, _: learners.certificate_statuses(),
    ),
    "certificate_issued": ("text", "Issued", "no certificate", lambda learners, _: learners.certificates_issued()),
    "total_score": (
        "number",
        "sum of the scores in the collection's assessments",
        "no assessment attempted",
        lambda learners, column: learners.total_percents() if column.format == ScoreFormat.PERCENT else learners.total_scores(),
    ),
    "max_score": (
        "number",
        "maximum of the total score",
        f"no assessment attempted, {OR_NO_MAXIMUM}",
        lambda learners, _: learners.max_scores(),
    ),
    "attempts": (
        "number",
        "number of attempts at the collection's assessments",
        "",
        lambda learners, _: learners.attempt_counts(),
    ),
}


def columns(report: Report) -> list[Column]:
    """Return the columns that the layout lists, then the columns of the hierarchy's nodes."""
    return [*(_listed(column, report) for column in report.layout.columns), *_node_columns(report)]


def _listed(column: LayoutColumn, report: Report) -> Column:
    if column.user_field:
        make = Learners.first_entries if column.format == FIRST else Learners.text
        meaning = f"{column.user_field} of the learner's profile"
        return Column(
            column.label,
            "text",
            meaning,
            lambda learners: _prefixed(column.prefix, make(learners, column.field)),
            NOT_IN_PROFILE,
            excel_text=column.format == EXCEL_TEXT,
        )
    kind, meaning, blank, cells = FIELDS[column.field]
    decimal_sign = report.layout.decimal_sign if kind == "number" else "."
    max_score = {"progress": FULL, "total_score": _max_total(report)}.get(column.field, "")
    if column.format == ScoreFormat.PERCENT:
        meaning, blank, max_score = f"{meaning}, in percent of the maximum score", f"{blank}, {OR_NO_MAXIMUM}", FULL
    if kind == "date":
        meaning += f" (time zone {report.time_zone})"
    return Column(
        column.label,
        "text" if column.prefix else kind,
        meaning,
        lambda learners: _prefixed(column.prefix, cells(learners, column), decimal_sign),
        blank,
        pattern=column.format or STANDARD_DATE if kind == "date" else "",
        excel_text=column.format == EXCEL_TEXT,
        max_score=max_score,
    )


def _max_total(report: Report) -> str:
    """Return the sum of the maximum scores of all assessments; empty if one is unknown."""
    known = [report.max_scores.get(content_id) for content_id in report.hierarchy.assessment_ids]
    found = [score for score in known if score is not None]
    return text.number(sum(found, Decimal())) if found and len(found) == len(known) else ""


def _prefixed(prefix: str, cells: Cells, decimal_sign: str = ".") -> Cells:
    """Return the cells with a prefix. That makes text of a number, so this is where it gets the layout's decimal sign."""
    if not prefix:
        return cells
    if isinstance(cells, str):
        return prefix + cells if cells else ""
    if decimal_sign != ".":
        cells = pc.replace_substring(cells, ".", decimal_sign)
    return pc.if_else(pc.equal(cells, ""), "", pc.binary_join_element_wise(prefix, cells, ""))


def _node_columns(report: Report) -> Iterator[Column]:
    layout, nodes = report.layout, report.hierarchy.nodes
    named = (layout.own_labels or report.rules.column_labels) == ColumnLabels.NAME
    percents = layout.score_format == ScoreFormat.PERCENT
    for node in sorted(nodes, key=lambda node: node.id) if layout.order == "id" else nodes:
        title = f"{node.name} ({node.id})" if named and node.name else node.id
        called = node.name or node.id
        if node.kind == "nested":
            if layout.nested_progress:
                meaning, make = f"completed contents of the nested collection {called}, in percent", Learners.nested_progress
                cells = partial(make, nested=node)
                yield Column(f"{title}{PROGRESS_ENDING}", "number", meaning, cells, "not started", node=node, max_score=FULL)
        elif layout.scores == "every" or (layout.scores == "attempted" and node.id in report.attempted):
            yield Column(
                f"{title}{SCORE_ENDING}",
                "number",
                f"{layout.score_format} of the {report.rules.chosen_attempt} attempt at {called}",
                partial(Learners.score_percents if percents else Learners.scores, content_id=node.id),
                f"not attempted, {OR_NO_MAXIMUM}" if percents else "not attempted",
                node=node,
                max_score=FULL if percents else text.number(report.max_scores.get(node.id)),
            )
