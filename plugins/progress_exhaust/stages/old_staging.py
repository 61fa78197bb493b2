"""Find the staging that ended runs have left: it has the data of learners in clear, and only retention deletes it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.names import ENDED_RUN_STATES, RETENTION_DAG_ID
from progress_exhaust.stages.airflow_runs import run_state
from progress_exhaust.stages.batch_context import Log
from progress_exhaust.stages.site_setup import Site

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.report_store import ReportStoreHook

# The ids that Airflow and this package give to runs. A folder with another name belongs to a run only if Airflow knows that run.
RUN_ID = re.compile(r"(scheduled|manual|backfill|next|operator_triggered|asset_triggered|asset_materialization)__")


@dataclass
class StagedRun:
    """The folder of a run in staging."""

    folder: str
    run_id: str | None  # None: of another installation
    changed_at: datetime  # the newest file
    size_bytes: int = 0


def staged_runs(store: "ReportStoreHook", before: datetime) -> list[StagedRun]:
    """Return the runs in whose staging nothing has changed since a time, in the order of their folders."""
    runs: dict[str, StagedRun] = {}
    for folder, run_id, file in store.staged_files():
        run = runs.setdefault(folder, StagedRun(folder, run_id, file.changed_at))
        run.changed_at = max(run.changed_at, file.changed_at)
        run.size_bytes += file.size_bytes
    return [run for _, run in sorted(runs.items()) if run.changed_at < before]


def ended_runs(context: "Context", runs: list[StagedRun], log: Log) -> Iterator[StagedRun]:
    """Yield the runs of this installation that have ended or were deleted in Airflow; log which folders stay."""
    for run in runs:
        if run.run_id is None:
            continue
        state = run_state(context, run.run_id)
        if state in ENDED_RUN_STATES or (state is None and RUN_ID.match(run.run_id)):
            yield run
        else:
            reason = "it does not belong to a run" if state is None else f"its run is {state}"
            log.info("Kept staging %s: %s", run.run_id, reason)


def warn_of_old_staging(context: "Context", site: Site, log: Log) -> int | None:
    """Return how many ended runs have staging of twice `staging_days`: retention does not run. None if that is not known.

    It lists staging once.
    """
    days = 2 * site.settings.staging_days
    try:
        old = list(ended_runs(context, staged_runs(site.store(), datetime.now(UTC) - timedelta(days=days)), log))
    except Exception as error:  # this only warns: the run's requests are settled all the same
        text = str(error) if isinstance(error, ProgressExhaustError) else type(error).__name__
        log.warning("The age of the files in staging cannot be checked: %s", text)
        return None
    if old:
        log.warning(
            "Learner data of ended runs is in staging for more than %g days: runs=%d bytes=%d oldest=%s. The DAG %s deletes it "
            "after staging_days=%g: check that it is not paused and does not fail",
            days,
            len(old),
            sum(run.size_bytes for run in old),
            f"{min(run.changed_at for run in old):%F}",
            RETENTION_DAG_ID,
            site.settings.staging_days,
        )
    return len(old)
