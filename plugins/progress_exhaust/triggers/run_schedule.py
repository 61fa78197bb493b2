"""When runs start: by the schedule, and on request as soon as a request is submitted (docs/how-to/make-reports-on-request.md)."""

import logging
from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher

from progress_exhaust.airflow_names import AssetOrTimeSchedule
from progress_exhaust.names import REPORT_DAG_ID, REQUESTS_ASSET

ENVIRONMENT = "PROGRESS_EXHAUST_ON_REQUEST"

log = logging.getLogger(__name__)


def run_schedule(schedule: str, on_request: str | None, start_date: datetime) -> tuple[Any, str]:
    """Return the schedule of the DAG, and an error for the DAG's page.

    A mistake in the variable does not stop the DAG: the runs of the schedule go on.

    :param schedule: a cron expression or a preset such as @daily
    :param on_request: the text of the environment variable
    """
    if on_request == "true":
        return _on_request(schedule, start_date), ""
    if not on_request or on_request == "false":
        return schedule, ""
    message = f"Runs start by the schedule only, because {ENVIRONMENT} must be true or false, and is {on_request!r}"
    log.error(message)
    return schedule, f"**{message}**\n\n"


def _on_request(schedule: str, start_date: datetime) -> AssetOrTimeSchedule:
    from progress_exhaust.triggers.pending_requests import PendingRequestsTrigger

    # What Airflow makes of the same text if there is no asset. It depends on Airflow's configuration.
    timetable: Any = DAG(REPORT_DAG_ID, schedule=schedule, start_date=start_date).timetable
    timetable.validate()
    watcher = AssetWatcher(name="submitted_requests", trigger=PendingRequestsTrigger())
    return AssetOrTimeSchedule(timetable=timetable, assets=[Asset(REQUESTS_ASSET, watchers=[watcher])])
