"""Which requests a run may claim: the sensor counts them, and claim_requests claims them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from progress_exhaust.errors import SetupError
from progress_exhaust.settings import Settings
from progress_exhaust.stages.site_setup import RunParams, Site, report_day

if TYPE_CHECKING:
    from airflow.sdk import Context

    from progress_exhaust.hooks.requests.models import Selection

BACKFILL = "backfill"
NEXT_RUN = re.compile(r"next__(\d+)__(.+)")  # id of a run that settle_requests of another one has started


def select_requests(context: "Context", site: Site, params: RunParams, ended_runs: Sequence[str]) -> "Selection":
    """Return the selection of the run. A backfill of a day takes what was submitted up to the end of that day."""
    from progress_exhaust.hooks.requests.models import Selection

    settings, day = site.settings, report_day(context, site.settings)
    next_run = NEXT_RUN.fullmatch(context["run_id"])
    next_day = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(settings.report_timezone))
    return Selection(
        most=settings.batches_per_run,
        day=day,
        abandoned_before=datetime.now(UTC) - timedelta(hours=settings.abandoned_processing_hours),
        request_ids=params.request_ids,
        batch_number=settings.batch_number,
        channels=settings.channels,
        submitted_before=next_day if context["dag_run"].run_type == BACKFILL else None,
        ended_runs=ended_runs,
        force=params.force,
        first_run=next_run[2] if next_run and not params.request_ids else None,
    )


def is_next_run(run_id: str) -> bool:
    """Tell whether settle_requests of another run has started the run."""
    return bool(NEXT_RUN.fullmatch(run_id))


def check_batch_number(settings: Settings, missing: Sequence[str]) -> None:
    """Raise SetupError if a setting selects requests by a column that the table lacks: no request would ever be made."""
    if "batch_number" in missing and settings.batch_number is not None:
        raise SetupError(
            f"The setting batch_number is {settings.batch_number}, but table {settings.job_request_table} has no such column. "
            "Remove batch_number from the Variable progress_exhaust"
        )
