"""The report's columns: each one object that holds its label and how its cells are made."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd

from progress_exhaust.report.hierarchy import Hierarchy
from progress_exhaust.report.pivot import Learners


@dataclass(frozen=True)
class Column:
    """A column of the report."""

    label: str
    cells: Callable[[Learners], "pd.Series[str] | str"]  # one text for all rows, where it is the same in each


STANDARD = (
    Column("Collection Id", lambda learners: learners.batch.collection_id),
    Column("Collection Name", lambda learners: learners.facts.collection_name),
    Column("Batch Id", lambda learners: learners.batch.batch_id),
    Column("Batch Name", lambda learners: learners.facts.batch_name),
    Column("User UUID", lambda learners: learners.text("user_id")),
    Column("User Name", Learners.user_names),
    Column("State", lambda learners: learners.text("state")),
    Column("District", lambda learners: learners.text("district")),
    Column("Enrolment Date", Learners.enrolment_dates),
    Column("Completion Date", Learners.completion_dates),
    Column("Progress", Learners.progress),
    Column("Certificate Status", Learners.certificate_statuses),
    Column("Total Score", Learners.total_scores),
)


def columns(hierarchy: Hierarchy, *, named: bool) -> list[Column]:
    """Return the columns of layout `standard`: the fixed ones, then the collection's own in tree order.

    named: label these `<name> (<id>) - Score` instead of `<id> - Score`, where they have a name.
    """
    return [*STANDARD, *_own_columns(hierarchy, named)]


def _own_columns(hierarchy: Hierarchy, named: bool) -> Iterator[Column]:
    for part in hierarchy.parts:
        title = f"{part.name} ({part.id})" if named and part.name else part.id
        if part.kind == "nested":
            yield Column(f"{title} - Progress", partial(Learners.nested_progress, nested=part))
        else:
            yield Column(f"{title} - Score", partial(Learners.scores, content_id=part.id))
