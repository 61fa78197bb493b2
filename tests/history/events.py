"""What a history consists of: committed changes of rows, files that were published, and runs that ended. In the order of time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Key = tuple[str, str]  # tag, request id
Run = tuple[str, str]  # installation, run id

REQUESTER, PERSON = "requester", "person"


@dataclass(frozen=True)
class By:
    """Who did something: an attempt of a task of a run, the requester, or a person. Unknown if all is empty."""

    kind: str = ""  # "run", REQUESTER, PERSON; empty: not known
    run: Run = ("", "")
    task_attempt: int = 0
    params: frozenset[str] = frozenset()  # of the run: force, release_claims

    def __str__(self) -> str:
        return "|".join((self.kind, *self.run, str(self.task_attempt), " ".join(sorted(self.params))))

    @classmethod
    def parse(cls, text: str) -> "By":
        if not text:
            return cls()
        kind, installation, run_id, task_attempt, params = text.split("|")
        return cls(kind, (installation, run_id), int(task_attempt), frozenset(params.split()))


@dataclass(frozen=True)
class Change:
    """One row before and after; None where it did not exist."""

    table: str  # job_request, claim or batch_run
    old: Row | None
    new: Row | None


@dataclass(frozen=True)
class Commit:
    """One transaction."""

    by: By
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Published:
    """A file that is complete in the reports container."""

    by: By
    key: str
    sha256: str = ""
    level: int = 0  # how strongly it is protected


@dataclass(frozen=True)
class RunEnded:
    """Airflow says that a run has ended, or was deleted."""

    run: Run


@dataclass(frozen=True)
class PolicyChanged:
    """From now on, an org wants at least this level."""

    level: int


Event = Commit | Published | RunEnded | PolicyChanged


def whole_changes(changes: Iterable[Change]) -> list[Change]:
    """Return one change for each row: how it was before the transaction, and how it is after it."""
    whole: dict[tuple[Any, ...], Change] = {}
    for change in changes:
        row = change.new or change.old or {}
        place = change.table, *key_of(change), *(() if change.table == "job_request" else run_of(change)), row.get("batch_id")
        first = whole.get(place, change)
        whole[place] = Change(change.table, first.old, change.new)
    return [change for change in whole.values() if change.old != change.new]


def key_of(change: Change) -> Key:
    row = change.new or change.old or {}
    return row["tag"], row["request_id"]


def run_of(change: Change) -> Run:
    return run_of_row(change.new or change.old or {})


def run_of_row(row: Row) -> Run:
    return row["installation"], row["run_id"]
