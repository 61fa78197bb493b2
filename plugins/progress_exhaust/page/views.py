"""What the templates show, worked out of the ledger's rows and the states of Airflow's runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from progress_exhaust.hooks.request_status import BatchStatus, Night, RequestStatus
from progress_exhaust.report.left_out import LEFT_OUT

STAGES = ("fetch_hierarchy", "extract", "pivot", "package", "mark_complete")
# A batch's state in the ledger, in words; broken off: its run is over, and did not write down why.
STATES = {
    "waiting": "waiting",
    "running": "running",
    "done": "done",
    "deferred": "waits for the next run",
    "rejected": "cannot be made",
    "failed": "failed",
    "broken_off": "broken off",
}
RUN_OVER = ("success", "failed")


@dataclass(frozen=True)
class Run:
    """A run of the DAG in Airflow."""

    state: str
    layout: str | None = None  # its Param


@dataclass(frozen=True)
class BatchView:
    """One batch of a request.

    :param run_state: of the batch's run in Airflow; None where the run is gone
    :param map_index: of its tasks; None where Airflow does not say
    """

    batch: BatchStatus
    run_state: str | None
    map_index: int | None = None

    @property
    def state(self) -> str:
        unfinished = self.batch.state in ("waiting", "running")
        return "broken_off" if unfinished and (self.run_state is None or self.run_state in RUN_OVER) else self.batch.state

    @property
    def words(self) -> str:
        return STATES.get(self.state, self.state)

    @property
    def learners(self) -> tuple[int, int]:
        """How many learners are read, and of how many; 0 of 0 until that is known."""
        enrolled = self.batch.counts.get("enrolled", 0)
        return (enrolled if self._extracted == 1 else min(self.batch.counts.get("learners_done", 0), enrolled)), enrolled

    @property
    def _extracted(self) -> float:
        """How far extract is, 0 to 1: what it took before counts no more while an earlier stage is run again."""
        if self.batch.state == "done" or ("extract" in self.batch.seconds and self.batch.stage in STAGES[1:]):
            return 1
        return self.batch.counts.get("percent", 0) / 100

    @property
    def share(self) -> float:
        """How much of the batch is done, 0 to 1: extract, which says how far it is, is nearly all of it."""
        return 1 if self.batch.state == "done" else 0.95 * self._extracted

    @property
    def seconds_left(self) -> int | None:
        """The time that extract will still take, as it said itself at its last news; None where it said nothing."""
        left = self.batch.counts.get("seconds_left")
        if self.state != "running" or self.batch.stage != "extract" or left is None:
            return None
        return max(0, round(left - (datetime.now(UTC) - self.batch.changed_at).total_seconds()))

    @property
    def left_out(self) -> dict[str, int]:
        """How many learners are left out, by the reason's words."""
        return {words: number for reason, words in LEFT_OUT.items() if (number := self.batch.counts.get(f"excluded.{reason}"))}

    @property
    def notes(self) -> list[str]:
        """What its reader should know of the file."""
        counts, found = self.batch.counts, []
        if counts.get("csv_instead_of_xlsx"):
            found.append("a csv, for it has more rows or columns than Excel opens")
        if counts.get("cut_cells"):
            found.append(f"{counts['cut_cells']:,} cells are cut to the longest text that Excel opens")
        return found

    @property
    def seconds(self) -> float:
        return sum(self.batch.seconds.values())

    @property
    def stages(self) -> list[tuple[str, float | None]]:
        """Each stage, and the seconds that it took; None where it has not been done."""
        return [(stage, self.batch.seconds.get(stage)) for stage in STAGES]

    @property
    def file_name(self) -> str | None:
        return self.batch.object_key and PurePosixPath(self.batch.object_key).name

    @property
    def rerun_task(self) -> list[Any] | None:
        """The task to clear, with what follows it, so that a failed batch is tried again; None where there is nothing to."""
        if self.state not in ("failed", "broken_off") or self.run_state is None or self.map_index is None:
            return None
        return [f"batch.{self.batch.stage if self.batch.stage in STAGES else STAGES[0]}", self.map_index]


@dataclass(frozen=True)
class RequestView:
    """One request, with its batches."""

    request: RequestStatus
    batches: Sequence[BatchView]
    run: Run | None  # the one that took it last; None where Airflow has it no more

    @property
    def run_state(self) -> str | None:
        return self.run and self.run.state

    @property
    def run_id(self) -> str | None:
        return self.request.run_id or self.request.claim_run_id

    @property
    def running(self) -> bool:
        """Whether a run of ours that lives works on it."""
        held = self.request.status == "PROCESSING" and (self.request.held or self.request.run_id)
        return bool(held) and self.run_state is not None and self.run_state not in RUN_OVER

    @property
    def note(self) -> str | None:
        """Why a request that is PROCESSING makes no progress."""
        if self.request.status != "PROCESSING" or self.running:
            return None
        if self.request.run_id:
            return "the run that held it is over"
        if self.request.held:
            return "the run that held it is over; the next run takes it over"
        return "no run of this DAG holds it: another program, or nobody"

    @property
    def age_seconds(self) -> float | None:
        """How long it has waited, or how long it took to its end."""
        if self.request.submitted_at is None:
            return None
        over = self.request.status in ("SUCCESS", "FAILED") and self.request.completed_at
        return ((over or datetime.now(UTC)) - self.request.submitted_at).total_seconds()

    @cached_property
    def _made(self) -> set[str]:
        """The batches that have their file, by whichever program; one that is being made again has an old one."""
        states = {view.batch.batch_id: view.batch.state for view in self.batches}
        unmade = ("waiting", "running") if self.request.status == "PROCESSING" else ()
        made = {batch_id for batch_id, state in states.items() if state == "done"}
        return made | {batch_id for batch_id in self.request.processed if states.get(batch_id) not in unmade}

    @property
    def done(self) -> int:
        return len(self._made)

    @property
    def total(self) -> int:
        """How many batches are known of it; 0 where no run has listed them yet."""
        return len(self._made | {view.batch.batch_id for view in self.batches})

    @property
    def made_elsewhere(self) -> list[str]:
        """The finished batches that the ledger does not have."""
        return [one for one in self.request.processed if one not in {view.batch.batch_id for view in self.batches}]

    @property
    def percent(self) -> int:
        return int(100 * sum(view.share for view in self.batches) / len(self.batches)) if self.batches else 0

    @cached_property
    def learners(self) -> tuple[int, int]:
        read = [view.learners for view in self.batches]
        return sum(done for done, _ in read), sum(enrolled for _, enrolled in read)

    @property
    def seconds_left(self) -> int | None:
        """The longest that a batch says it needs: those at work are so side by side."""
        return max((left for view in self.batches if (left := view.seconds_left) is not None), default=None)

    @property
    def reported(self) -> int | None:
        """How many rows its reports have; None where the ledger has none of them."""
        rows = [view.batch.counts.get("reported", 0) for view in self.batches if view.state == "done"]
        return sum(rows) if rows else None

    @cached_property
    def left_out(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for view in self.batches:
            total.update(view.left_out)
        return dict(total)

    @property
    def size_bytes(self) -> int:
        return sum(view.batch.size_bytes or 0 for view in self.batches)

    @property
    def seconds(self) -> float:
        return sum(view.seconds for view in self.batches)

    @property
    def again(self) -> dict[str, Any] | None:
        """The Params of a run that makes it again; None while it waits or is being made."""
        if self.request.status not in ("SUCCESS", "FAILED"):
            return None
        if self.request.run_id:
            layout = {"layout": self.run.layout} if self.run and self.run.layout else {}
            return {"batch_ids": [view.batch.batch_id for view in self.batches]} | layout
        return {"request_ids": [self.request.request_id], "force": True}


def view(
    request: RequestStatus, batches: Sequence[BatchStatus], runs: Mapping[str, Run], places: Mapping[Any, int]
) -> RequestView:
    """Join a request, its batches, their runs, and their map indexes (see airflow_runs)."""
    states = {run_id: run.state for run_id, run in runs.items()}
    views = [
        BatchView(one, states.get(one.run_id), places.get((one.run_id, request.tag, request.request_id, one.batch_id)))
        for one in batches
    ]
    return RequestView(request, views, runs.get(request.run_id or request.claim_run_id or ""))


@dataclass(frozen=True)
class Chart:
    """One number of each night, as bars."""

    title: str
    nights: Sequence[Night]
    name: str  # of the number

    @cached_property
    def values(self) -> list[float]:
        return [getattr(night, self.name) for night in self.nights]

    @property
    def most(self) -> float:
        return max(self.values, default=0)

    @property
    def words(self) -> str:
        """The chart in a sentence, for who cannot see it."""
        if not self.most:
            return f"{self.title}: none in {len(self.nights)} days"
        peak = self.nights[self.values.index(self.most)]
        return (
            f"{self.title} of the last {len(self.nights)} days: {sum(self.values):,.0f} in all, at most {self.most:,.0f} on "
            f"{peak.day}, {self.values[-1]:,.0f} today"
        )


def charts(nights: Sequence[Night]) -> list[Chart]:
    names = {"requests": "Requests", "learners": "Learners reported", "seconds": "Seconds of work", "failures": "Failures"}
    return [Chart(title, nights, name) for name, title in names.items()]


def in_time(seconds: float | None) -> str:
    """Say a duration as a person does: 40 s, 3 min, 2 h 5 min, 4 d; 0 s for what is to come by another clock."""
    if seconds is None:
        return ""
    seconds = max(0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{round(seconds, 1):g} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    parts = ((minutes // 60, "h"), (minutes % 60, "min")) if minutes < 48 * 60 else ((hours // 24, "d"), (hours % 24, "h"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def in_bytes(size: int | None) -> str:
    """Say a size in kB, MB or GB; nothing for none."""
    if not size:
        return ""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if round(1000 * size / factor, 1) >= 1000:  # as the next smaller unit would say it
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
