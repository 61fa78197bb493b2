"""The report's columns: each one object that holds its label and how its cells are made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from progress_exhaust.report.layout import FIRST, PERCENT, STANDARD_DATE, LayoutColumn
from progress_exhaust.report.pivot import Learners, Report

Cells: TypeAlias = "pa.Array | str"  # one text for all rows, where it is the same in each
# A number is blank or written by this package alone: never to be cleaned or quoted. A date may be any text.
Kind = Literal["text", "number", "date"]


@dataclass(frozen=True)
class Column:
    """A column of the report."""

    label: str
    kind: Kind
    cells: Callable[[Learners], Cells]


FIELDS: dict[str, tuple[Kind, Callable[[Learners, LayoutColumn], Cells]]] = {
    "collection_id": ("text", lambda learners, _: learners.report.batch.collection_id),
    "collection_name": ("text", lambda learners, _: learners.report.facts.collection_name),
    "batch_id": ("text", lambda learners, _: learners.report.batch.batch_id),
    "batch_name": ("text", lambda learners, _: learners.report.facts.batch_name),
    "user_id": ("text", lambda learners, _: learners.text("user_id")),
    "user_name": ("text", lambda learners, _: learners.user_names()),
    "enrolment_date": ("date", lambda learners, column: learners.enrolment_dates(column.format or STANDARD_DATE)),
    "completion_date": ("date", lambda learners, column: learners.completion_dates(column.format or STANDARD_DATE)),
    "progress": ("number", lambda learners, _: learners.progress()),
    "certificate_status": ("text", lambda learners, _: learners.certificate_statuses()),
    "certificate_issued": ("text", lambda learners, _: learners.certificates_issued()),
    "total_score": (
        "number",
        lambda learners, column: learners.total_percents() if column.format == PERCENT else learners.total_scores(),
    ),
}


def columns(report: Report) -> list[Column]:
    """Return the layout's columns: those that it lists, then the collection's own."""
    return [*map(_listed, report.layout.columns), *_own_columns(report)]


def _listed(column: LayoutColumn) -> Column:
    if column.user_field:
        made = Learners.first_entries if column.format == FIRST else Learners.text
        return Column(column.label, "text", lambda learners: _prefixed(column.prefix, made(learners, column.field)))
    kind, cells = FIELDS[column.field]
    return Column(
        column.label, "text" if column.prefix else kind, lambda learners: _prefixed(column.prefix, cells(learners, column))
    )


def _prefixed(prefix: str, cells: Cells) -> Cells:
    if not prefix:
        return cells
    if isinstance(cells, str):
        return prefix + cells if cells else ""
    return pc.if_else(pc.equal(cells, ""), "", pc.binary_join_element_wise(prefix, cells, ""))


def _own_columns(report: Report) -> Iterator[Column]:
    layout, parts = report.layout, report.hierarchy.parts
    named = (layout.own_labels or report.rules.column_labels) == "name"
    percents = layout.score_format == "percent"
    for part in sorted(parts, key=lambda part: part.id) if layout.order == "id" else parts:
        title = f"{part.name} ({part.id})" if named and part.name else part.id
        if part.kind == "nested":
            if layout.nested_progress:
                yield Column(f"{title} - Progress", "number", partial(Learners.nested_progress, nested=part))
        elif layout.scores == "every" or (layout.scores == "attempted" and part.id in report.attempted):
            made = Learners.score_percents if percents else Learners.scores
            yield Column(f"{title} - Score", "number", partial(made, content_id=part.id))
