"""The report's columns: each one object that holds its label and how its cells are made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report.cells import Learners
from progress_exhaust.report.layout import FIRST, PERCENT, PROGRESS_ENDING, SCORE_ENDING, STANDARD_DATE, LayoutColumn
from progress_exhaust.report.report import Report

Cells: TypeAlias = "pa.Array | str"  # one text for all rows, where it is the same in each
# A number is blank or written by this package alone: never to be cleaned or quoted. A date may be any text.
Kind = Literal["text", "number", "date"]


@dataclass(frozen=True)
class Column:
    """A column of the report."""

    label: str
    kind: Kind
    meaning: str
    cells: Callable[[Learners], Cells]
    pattern: str = ""  # of a date


# By field: its kind, what it means, and how it is made.
FIELDS: dict[str, tuple[Kind, str, Callable[[Learners, LayoutColumn], Cells]]] = {
    "collection_id": ("text", "id of the collection", lambda learners, _: learners.report.batch.collection_id),
    "collection_name": ("text", "name of the collection", lambda learners, _: learners.report.facts.collection_name),
    "batch_id": ("text", "id of the batch", lambda learners, _: learners.report.batch.batch_id),
    "batch_name": ("text", "name of the batch", lambda learners, _: learners.report.facts.batch_name),
    "user_id": ("text", "id of the learner", lambda learners, _: learners.text("user_id")),
    "user_name": ("text", "first and last name of the learner", lambda learners, _: learners.user_names()),
    "enrolment_date": (
        "date",
        "when the learner enrolled",
        lambda learners, column: learners.enrolment_dates(column.format or STANDARD_DATE),
    ),
    "completion_date": (
        "date",
        "when the learner completed the collection; blank until then",
        lambda learners, column: learners.completion_dates(column.format or STANDARD_DATE),
    ),
    "progress": ("number", "contents completed, in percent of the collection's", lambda learners, _: learners.progress()),
    "certificate_status": (
        "text",
        "Issued; Failed, where issuing it failed; or blank",
        lambda learners, _: learners.certificate_statuses(),
    ),
    "certificate_issued": ("text", "Issued, or blank", lambda learners, _: learners.certificates_issued()),
    "total_score": (
        "number",
        "sum of the scores in the collection's assessments; blank where none was attempted",
        lambda learners, column: learners.total_percents() if column.format == PERCENT else learners.total_scores(),
    ),
}


def columns(report: Report) -> list[Column]:
    """Return the layout's columns: those that it lists, then the collection's own."""
    return [*(_listed(column, report) for column in report.layout.columns), *_own_columns(report)]


def _listed(column: LayoutColumn, report: Report) -> Column:
    if column.user_field:
        made = Learners.first_entries if column.format == FIRST else Learners.text
        meaning = f"{column.user_field} of the learner's profile"
        return Column(column.label, "text", meaning, lambda learners: _prefixed(column.prefix, made(learners, column.field)))
    kind, meaning, cells = FIELDS[column.field]
    if column.format == PERCENT:
        meaning += ", in percent of what could be reached"
    if kind == "date":
        meaning += f" (time zone {report.time_zone})"
    return Column(
        column.label,
        "text" if column.prefix else kind,
        meaning,
        lambda learners: _prefixed(column.prefix, cells(learners, column)),
        pattern=column.format or STANDARD_DATE if kind == "date" else "",
    )


def _prefixed(prefix: str, cells: Cells) -> Cells:
    if not prefix:
        return cells
    if isinstance(cells, str):
        return prefix + cells if cells else ""
    return pc.if_else(pc.equal(cells, ""), "", pc.binary_join_element_wise(prefix, cells, ""))


def _own_columns(report: Report) -> Iterator[Column]:
    layout, nodes = report.layout, report.hierarchy.nodes
    named = (layout.own_labels or report.rules.column_labels) == "name"
    percents = layout.score_format == "percent"
    unit = "percent" if percents else "points"
    for node in sorted(nodes, key=lambda node: node.id) if layout.order == "id" else nodes:
        title = f"{node.name} ({node.id})" if named and node.name else node.id
        called = node.name or node.id
        if node.kind == "nested":
            if layout.nested_progress:
                meaning = f"contents completed of the nested collection {called}, in percent; blank where it was not begun"
                yield Column(f"{title}{PROGRESS_ENDING}", "number", meaning, partial(Learners.nested_progress, nested=node))
        elif layout.scores == "every" or (layout.scores == "attempted" and node.id in report.attempted):
            made = Learners.score_percents if percents else Learners.scores
            meaning = f"{unit} of the {report.rules.chosen_attempt} attempt at {called}; blank where it was not attempted"
            yield Column(f"{title}{SCORE_ENDING}", "number", meaning, partial(made, content_id=node.id))
