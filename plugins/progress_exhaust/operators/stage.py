"""What the five stages of one batch share: the claim, the ledger, and the folder that they hand their work on in."""

import errno
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from airflow.sdk.exceptions import AirflowSkipException

from progress_exhaust import metrics
from progress_exhaust.errors import ClaimLostError, OverLimitError, ProgressExhaustError, RequestError, SetupError, SourceError
from progress_exhaust.operators.links import RequestLink
from progress_exhaust.operators.site_operator import RunParams, Site, SiteOperator, in_words, report_day

if TYPE_CHECKING:
    from logging import Logger

    from airflow.sdk import Context, ObjectStoragePath

    from progress_exhaust.hooks.job_requests import BatchRun, RequestsHook
    from progress_exhaust.report.hierarchy import Hierarchy
    from progress_exhaust.report.request import Batch, BatchFacts

# In a batch's staging folder. Each stage writes its own last, whole or not at all: where it is, the stage is done.
FACTS_FILE = "batch.json"  # list_batches
HIERARCHY_FILE = "hierarchy.json"  # fetch_hierarchy
EXTRACT_FILE = "extract.json"
PIVOT_FILE = "pivot.json"
PACKAGE_FILE = "package.json"

OVER = ("done", "deferred", "rejected")  # states of a batch, in the ledger, that nothing follows

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

SECONDS_BETWEEN_NEWS = 5
LEARNERS = "learners"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Work:
    """One batch, and all that a stage of it needs."""

    site: Site
    params: RunParams
    batch: "Batch"
    day: date  # of the report's file name
    folder: "ObjectStoragePath"
    requests: "RequestsHook"
    log: "Logger"
    stage: str = ""

    def is_of_today(self, instant: str) -> bool:
        """Tell whether an instant (ISO, with zone) is of this day of the reports' time zone: older facts are not mixed in."""
        zone = ZoneInfo(self.site.settings.report_timezone)
        return datetime.fromisoformat(instant).astimezone(zone).date() == datetime.now(UTC).astimezone(zone).date()

    def facts(self) -> "BatchFacts":
        from progress_exhaust.report.request import BatchFacts

        return BatchFacts(**self.read(FACTS_FILE))

    def hierarchy(self) -> "Hierarchy":
        from progress_exhaust.report.hierarchy import Hierarchy

        return Hierarchy.from_dict(self.read(HIERARCHY_FILE))

    def alike(self) -> "list[BatchRun]":
        """Return the same batch in other requests of the run for the same org: one extract serves all of them."""
        batch = self.batch
        return [
            run
            for run in self.requests.run_batches()
            if (run.batch.key, run.channel) == (batch.key, batch.channel) and run.batch != batch
        ]

    def page(self, number: int) -> "ObjectStoragePath":
        return self.folder / "pages" / f"{number:05d}.parquet"

    def part(self, number: int) -> "ObjectStoragePath":
        return self.folder / "parts" / f"{number:05d}.parquet"

    def read(self, name: str) -> dict[str, Any]:
        """Return what an earlier stage left behind; raises SetupError where it is gone."""
        values = self.find(name)
        if values is None:
            raise SetupError(
                f"{self.batch}: {name} is gone from staging ({self.folder}), as it is once a batch is done. Clear the stage "
                "that makes it, or make the request again by a run with the Params request_ids and force"
            )
        return values

    def find(self, name: str) -> dict[str, Any] | None:
        """Return what a stage left behind; None where it did not, or it is gone."""
        try:
            values: dict[str, Any] = json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return None
        return values

    def tell(self, counts: Mapping[str, int]) -> None:
        """Write counts in the ledger while the stage is at work."""
        self.requests.record(self.batch, stage=self.stage, state="running", counts=counts)

    def pinned(self) -> "AbstractContextManager[Any]":
        """Let the block change what the stage hands on; raises ClaimLostError where a later try of it has begun.

        That one may be done, and the next stages be reading.
        """
        return nullcontext() if self.params.dry_run else self.requests.pinned_try(self.batch, self.stage)

    def forget(self, name: str) -> None:
        """Take back what this stage left behind before: it is at work again."""
        with self.pinned():
            (self.folder / name).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a folder that this stage left behind before."""
        from progress_exhaust.hooks.report_store import remove_folder

        with self.pinned():
            remove_folder(self.folder / name)

    def leave(self, name: str, values: Mapping[str, Any]) -> None:
        """Say that this stage is done, and what it came to."""
        self.write(self.folder / name, json.dumps(values).encode())

    def write(self, path: "ObjectStoragePath", data: bytes) -> None:
        """Write a file for the next stages, or for a retry, whole or not at all."""
        from progress_exhaust.hooks.report_store import write_whole

        with self.pinned():
            write_whole(path, data)


class Progress:
    """Tells a person how far long work is, every few seconds, in the log.

    :param total: how many steps there are; None where nobody knows
    :param share: from where to where the work takes its stage, 0 to 1: the ledger is told too, for the bar on the page
    """

    def __init__(self, work: Work, what: str, total: int | None = None, *, share: tuple[float, float] | None = None) -> None:
        self._work = work
        self._what = what
        self._total = total
        self._share = share
        self._done = self._skipped = 0
        self._begun = self._told = monotonic()

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """Pass the items on, each a step."""
        for item in items:
            yield item
            self.add(1)

    def skip(self, done: int) -> None:
        """Count what an earlier attempt has done: it says nothing of how fast this one is."""
        self._done += done
        self._skipped += done

    def add(self, done: int) -> None:
        self._done += done
        now = monotonic()
        if now - self._told < SECONDS_BETWEEN_NEWS:
            return
        self._told = now
        rate = (self._done - self._skipped) / (now - self._begun)
        words = f"{self._done:,} {self._what}, {rate:,.0f} a second"
        if self._total is not None:
            left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
            words = f"{self._done:,} of {self._total:,} {self._what}, {rate:,.0f} a second{left}"
        self._work.log.info("%s: %s", self._work.batch, words)
        if self._share and self._total:
            self._work.tell(self._news(rate, self._total, *self._share))

    def _news(self, rate: float, total: int, start: float, end: float) -> dict[str, int]:
        """Return the counts for the ledger; the time left is the whole stage's, if the rest of it goes as this does."""
        of_step = (end - start) / total
        share = start + of_step * self._done
        news = {"percent": int(100 * share)}
        if rate:
            news["seconds_left"] = round((1 - share) / (of_step * rate))
        if self._what == LEARNERS:
            news |= {"learners_done": self._done, "learners_per_second": round(rate)}
        return news


@contextmanager
def scratch_folder(stack: ExitStack) -> Iterator[Path]:
    """Give a folder on the worker's own disk, that goes with the stack; raises SourceError where the disk is full or missing.

    In the block nothing is written anywhere else: a disk that is full is this one. Any other error there is of what is read.
    """
    try:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="progress-exhaust-")))
    except OSError as error:
        raise _scratch_error(error) from None
    try:
        yield folder
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise _scratch_error(error) from None


def _scratch_error(error: OSError) -> SourceError:
    where = f" {tempfile.tempdir}" if tempfile.tempdir else ""  # none, where Python has found no usable one
    return SourceError(
        f"The worker's temporary folder{where}: {type(error).__name__}: {error}. Free space there, or set TMPDIR in the worker's "
        "environment to a folder that has it"
    )


class StageOperator(SiteOperator):
    """One stage of one batch.

    :param batch: what list_batches says of the batch (templated)
    """

    template_fields = ("batch",)
    operator_extra_links = (RequestLink(),)
    needs: tuple[str, ...] = ()  # files of earlier stages: where one is gone, nothing is claimed, marked or made
    state_after = "running"  # of the batch, in the ledger
    counted = ""  # what the grid shows beside the batch's id: a task cannot write itself a note

    def __init__(self, *, batch: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def make(self, work: Work) -> dict[str, Any]:
        """Do the stage's work; return its counts."""
        raise NotImplementedError

    def work(self, context: "Context", site: Site, params: RunParams) -> dict[str, Any]:
        return self.do(self.work_of(context, site, params))

    def work_of(self, context: "Context", site: Site, params: RunParams) -> Work:
        """Return what this try works with; nothing is read or claimed yet."""
        from progress_exhaust.report.request import Batch

        batch, stage = Batch.from_dict(self.batch), self.task_id.rpartition(".")[2]
        folder = site.store().batch_folder(site.run_id, batch)
        return Work(site, params, batch, report_day(context, site.settings), folder, site.requests(), self.log, stage)

    def do(self, work: Work) -> dict[str, Any]:
        """Do the work under the request's claim, and write down how it ended; return its counts."""
        batch, requests, stage, store = work.batch, work.requests, work.stage, work.site.store()
        with store.telling_staging():
            for name in self.needs:
                work.read(name)
        if not work.params.dry_run:
            requests.hold(batch)
        requests.record(batch, stage=stage, state="running")
        started = monotonic()
        try:
            with store.telling_staging():
                counts = self.make(work)
        except RequestError as error:
            self.log.warning("%s can never be made: %s", batch, error)
            self._ended(work, "rejected", error=str(error))
            raise AirflowSkipException(str(error)) from None
        except OverLimitError as error:
            self.log.info("%s waits for the next run: %s", batch, error)
            self._ended(work, "deferred", error=str(error))
            raise AirflowSkipException(str(error)) from None
        except ClaimLostError:
            raise
        except Exception as error:
            # Only our own messages are known to hold no learner's data.
            words = str(error) if isinstance(error, ProgressExhaustError) else type(error).__name__
            self._ended(work, "failed", error=words)
            raise
        seconds = monotonic() - started
        self._ended(work, self.state_after, counts=counts, seconds=seconds)
        self.log.info("%s: %s: %s in %.1f s", batch, stage, in_words(counts) or "done", seconds)
        return counts

    def _ended(self, work: Work, state: str, **what: Any) -> None:
        """Write down how the stage ended, in the ledger and in the metrics; those know nothing of a dry run."""
        work.requests.record(work.batch, stage=work.stage, state=state, **what)
        if work.params.dry_run:
            return
        if state != "running":
            metrics.batch_ended(state)
        if "seconds" in what:
            metrics.stage_took(work.stage, what["seconds"])
