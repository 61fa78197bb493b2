"""Test when runs start: by the schedule alone, or on request too."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.timetables.assets import AssetOrTimeSchedule as ServerSchedule
from pendulum import timezone

from progress_exhaust.airflow_names import AssetOrTimeSchedule
from progress_exhaust.names import REPORT_DAG_ID, REQUESTS_ASSET
from tests.airflow_versions import CronTriggerTimetable, DagBag, DagSerialization

PROJECT = Path(__file__).resolve().parents[2]


def parsed(on_request: str | None, schedule: str | None = None) -> tuple[dict[str, str], Any]:
    """Parse the DAG files with these variables; return the import errors and the DAG, if there is one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ON_REQUEST": on_request, "SCHEDULE": schedule}.items():
            if value is None:
                patch.delenv(f"PROGRESS_EXHAUST_{name}", raising=False)
            else:
                patch.setenv(f"PROGRESS_EXHAUST_{name}", value)
        bag = DagBag(str(PROJECT / "dags"))
    return bag.import_errors, bag.dags.get(REPORT_DAG_ID)


@pytest.mark.parametrize("off", [None, "", "false"])
def test_without_it_the_schedule_is_the_text(off: str | None) -> None:
    errors, dag = parsed(off)
    assert (errors, dag.schedule) == ({}, "0 8 * * *")
    assert "Runs start by the schedule only" not in dag.doc_md


@pytest.mark.parametrize(
    ("schedule", "expression"), [(None, "0 8 * * *"), ("*/10 * * * *", "*/10 * * * *"), ("@daily", "0 0 * * *")]
)
def test_with_it_the_schedule_stays_in_utc(schedule: str | None, expression: str) -> None:
    errors, dag = parsed("true", schedule)
    assert errors == {}
    assert isinstance(dag.schedule, AssetOrTimeSchedule)
    # Before Airflow 3.3, a preset stays as it is.
    same = [CronTriggerTimetable(one, timezone=timezone("UTC")) for one in (expression, schedule or expression)]
    assert dag.schedule.timetable in same
    assert (dag.catchup, dag.max_active_runs, dag.max_active_tasks) == (False, 4, 1000)


def test_with_it_one_asset_with_one_trigger_starts_runs() -> None:
    _, dag = parsed("true")
    [asset] = dag.schedule.asset_condition.objects
    assert asset.name == REQUESTS_ASSET
    [watcher] = asset.watchers
    path, arguments = watcher.trigger.serialize()
    assert (path, arguments) == ("progress_exhaust.triggers.pending_requests.PendingRequestsTrigger", {})


def test_the_scheduler_reads_it_and_backfills_it() -> None:
    _, dag = parsed("true")
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    assert isinstance(timetable, ServerSchedule)
    assert timetable.periodic  # Airflow backfills no other DAG
    assert timetable.summary == "Asset or 0 8 * * *"


@pytest.mark.parametrize("mistake", ["yes", "True", "1", "on"])
def test_mistake_is_on_the_dags_page_and_the_schedule_goes_on(mistake: str) -> None:
    errors, dag = parsed(mistake)
    assert (errors, dag.schedule) == ({}, "0 8 * * *")
    assert dag.doc_md.splitlines()[0] == (
        f"**Runs start by the schedule only, because PROGRESS_EXHAUST_ON_REQUEST must be true or false, and is {mistake!r}**"
    )


@pytest.mark.parametrize("schedule", ["", "61 * * * *", "@continuous", "None"])
def test_wrong_schedule_is_the_same_import_error_with_it_and_without(schedule: str) -> None:
    (with_it, _), (without, _) = parsed("true", schedule), parsed("false", schedule)
    [said], [expected] = with_it.values(), without.values()
    assert said.strip().splitlines()[-1].rpartition(": ")[2] == expected.strip().splitlines()[-1].rpartition(": ")[2]


def test_preset_that_starts_one_run_still_does() -> None:
    errors, dag = parsed("true", "@once")
    assert errors == {}
    assert type(dag.schedule.timetable).__name__ == "OnceTimetable"


def test_with_it_the_file_imports_no_driver_or_frame() -> None:
    script = (
        "import os, sys; from tests.airflow_versions import DagBag; os.environ['PROGRESS_EXHAUST_ON_REQUEST'] = 'true';"
        f"before = set(sys.modules); bag = DagBag({str(PROJECT / 'dags')!r}); assert not bag.import_errors;"
        "print({m.partition('.')[0] for m in set(sys.modules) - before} & {'pandas', 'pyarrow', 'psycopg', 'cassandra', 'redis'})"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "set()"
