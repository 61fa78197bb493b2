"""The report's columns: each one object that holds its label and how its cells are made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from progress_exhaust.report.pivot import Learners, Report


@dataclass(frozen=True)
class Column:
    """A column of the report."""

    label: str
    cells: Callable[[Learners], pa.Array | str]  # one text for all rows, where it is the same in each
    is_number: bool = False  # blank, or a number as this package writes it: never to be cleaned or quoted


STANDARD = (
    Column("Collection Id", lambda learners: learners.report.batch.collection_id),
    Column("Collection Name", lambda learners: learners.report.facts.collection_name),
    Column("Batch Id", lambda learners: learners.report.batch.batch_id),
    Column("Batch Name", lambda learners: learners.report.facts.batch_name),
    Column("User UUID", lambda learners: learners.text("user_id")),
    Column("User Name", Learners.user_names),
    Column("State", lambda learners: learners.text("state")),
    Column("District", lambda learners: learners.text("district")),
    Column("Enrolment Date", Learners.enrolment_dates),
    Column("Completion Date", Learners.completion_dates),
    Column("Progress", Learners.progress, is_number=True),
    Column("Certificate Status", Learners.certificate_statuses),
    Column("Total Score", Learners.total_scores, is_number=True),
)


def columns(report: Report) -> list[Column]:
    """Return the columns of layout `standard`: the fixed ones, then the collection's own in tree order."""
    return [*STANDARD, *_own_columns(report)]


def _own_columns(report: Report) -> Iterator[Column]:
    for part in report.hierarchy.parts:
        title = f"{part.name} ({part.id})" if report.named_columns and part.name else part.id
        if part.kind == "nested":
            yield Column(f"{title} - Progress", partial(Learners.nested_progress, nested=part), is_number=True)
        else:
            yield Column(f"{title} - Score", partial(Learners.scores, content_id=part.id), is_number=True)
