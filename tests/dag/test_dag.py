"""The DAG as an on-call engineer sees it: it is there, and wired as the architecture says."""

import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.utils.file import list_py_file_paths

from progress_exhaust.hooks.requests.models import BATCH_STAGES
from progress_exhaust.names import CHECK_DAG_ID, REPORT_DAG_ID, RETENTION_DAG_ID
from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.report.options import OutputFormat
from tests.airflow_versions import DagBag, ParamValidationError

PROJECT = Path(__file__).resolve().parents[2]


DAG_FILES = ["dags/progress_exhaust.py", "dags/progress_exhaust_check.py", "dags/progress_exhaust_retention.py"]


def test_all_dags_are_found_if_the_repository_is_the_dag_folder() -> None:
    found = [Path(path).relative_to(PROJECT).as_posix() for path in list_py_file_paths(PROJECT)]
    assert sorted(found) == DAG_FILES


@pytest.fixture(scope="module")
def dag() -> Any:
    bag = DagBag(str(PROJECT / "dags"))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [REPORT_DAG_ID, CHECK_DAG_ID, RETENTION_DAG_ID]
    return bag.dags[REPORT_DAG_ID]


@pytest.fixture(scope="module")
def check() -> Any:
    return DagBag(str(PROJECT / "dags")).dags[CHECK_DAG_ID]


@pytest.fixture(scope="module")
def retention() -> Any:
    return DagBag(str(PROJECT / "dags")).dags[RETENTION_DAG_ID]


def test_its_tasks_follow_each_other(dag: Any) -> None:
    stages = [f"batch.{stage}" for stage in BATCH_STAGES]
    order = ["wait_for_requests", "claim_requests", "list_batches", *stages, "settle_requests"]
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        task_id: [following] for task_id, following in pairwise(order)
    } | {
        "list_batches": sorted(stages),  # each of them is given the batch
        "settle_requests": [],
    }


def test_only_settling_runs_whatever_happened_and_is_the_only_leaf(dag: Any) -> None:
    assert {task.task_id for task in dag.tasks if task.trigger_rule == "all_done"} == {"settle_requests"}
    assert [task.task_id for task in dag.leaves] == ["settle_requests"]


@pytest.mark.parametrize("stage", BATCH_STAGES)
def test_each_stage_is_mapped_by_batch_labelled_by_its_id_and_in_the_pool(dag: Any, stage: str) -> None:
    task = dag.get_task(f"batch.{stage}")
    assert task.get_closest_mapped_task_group().group_id == "batch"
    assert task.map_index_template == "{{ task.batch['batch_id'] }}{{ label_suffix | default('') }}"
    assert task.pool == "progress_exhaust"
    assert task.weight_rule == "upstream" or type(task.weight_rule).__name__ == "_UpstreamPriorityWeightStrategy"  # 3.1
    assert task.template_fields == ("batch",)


def test_every_task_is_retried_with_backoff(dag: Any) -> None:
    for task in dag.tasks:
        assert (task.retries, task.retry_delay, task.max_retry_delay) == (4, timedelta(seconds=60), timedelta(minutes=15))
        assert task.retry_exponential_backoff


def test_every_task_has_a_timeout_a_stage_a_longer_one(dag: Any) -> None:
    for task in dag.tasks:
        assert task.execution_timeout == (timedelta(hours=6) if task.task_id.startswith("batch.") else timedelta(minutes=30))


def test_the_asset_is_known_before_its_first_event(dag: Any) -> None:
    """Two batches that end at once would both make it, and Airflow fail the task of the second for good."""
    assert [(outlet.name, type(outlet).__name__) for outlet in dag.get_task("batch.mark_complete").outlets] == [
        ("progress_exhaust_report", "Asset")
    ]


def test_the_sensor_frees_its_slot_between_pokes_and_skips_an_empty_queue(dag: Any) -> None:
    sensor = dag.get_task("wait_for_requests")
    assert (sensor.mode, sensor.soft_fail) == ("reschedule", True)
    assert sensor.poke_interval >= 30


def test_the_params_are_typed_and_described(dag: Any) -> None:
    params = {name: dag.params.get_param(name) for name in dag.params}
    assert list(params) == [
        "request_ids", "batch_ids", "force", "release_claims", "dry_run", "layout", "output_format",
    ]  # fmt: skip
    assert {name: param.value for name, param in params.items()} == {
        "request_ids": None, "batch_ids": None, "force": False, "release_claims": False, "dry_run": False, "layout": None,
        "output_format": None,
    }  # fmt: skip
    assert {name: param.schema["type"] for name, param in params.items()} == {
        "request_ids": ["null", "array"], "batch_ids": ["null", "array"], "force": "boolean",
        "release_claims": "boolean", "dry_run": "boolean",
        "layout": ["null", "string"], "output_format": ["null", "string"],
    }  # fmt: skip
    assert all(param.description for param in params.values())


def test_the_trigger_form_groups_the_params_and_shows_what_they_look_like(dag: Any) -> None:
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert {name: schema["section"] for name, schema in schemas.items()} == {
        "request_ids": "What to make", "batch_ids": "What to make", "force": "How", "release_claims": "How",
        "dry_run": "How", "layout": "How", "output_format": "How",
    }  # fmt: skip
    for name in ("request_ids", "batch_ids"):
        assert "such as " in dag.params.get_param(name).description
        assert "examples" not in schemas[name]  # the form would offer nothing else
    assert not any("description_md" in schema for schema in schemas.values()), "the form does not show both"
    assert schemas["layout"]["examples"] == list(BUILT_IN)
    assert schemas["output_format"]["enum"] == [None, *OutputFormat]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request_ids", "R1"),
        ("batch_ids", [1]),
        ("batch_ids", [""]),
        ("force", "yes"),
        ("dry_run", 1),
        ("layout", 7),
        ("layout", "a b"),
        ("output_format", "pdf"),
    ],
)
def test_a_param_of_another_type_is_refused(dag: Any, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_its_page_in_the_ui_is_the_files_docstring(dag: Any) -> None:
    assert "Resume." in dag.doc_md
    assert "](/progress-exhaust/)" in dag.doc_md and "docs/how-to/runbook.md" in dag.doc_md
    assert all(task.task_id in dag.doc_md for task in dag.tasks)


def test_it_runs_nightly_without_catching_up(dag: Any) -> None:
    assert dag.schedule == "0 8 * * *"
    assert not dag.catchup


def test_its_file_is_wiring_and_imports_no_driver_or_frame() -> None:
    script = (
        "import json, sys; from tests.airflow_versions import DagBag; before = set(sys.modules);"
        f"DagBag({str(PROJECT / 'dags')!r}); print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in json.loads(answer.stdout.splitlines()[-1])}
    assert "progress_exhaust" in loaded
    assert loaded & {"pandas", "pyarrow", "numpy", "cassandra", "psycopg", "psycopg2", "redis", "requests"} == set()
    assert len((PROJECT / "plugins" / "progress_exhaust" / "dags" / "report.py").read_text().splitlines()) < 150


def test_the_retention_is_one_task_a_day_and_never_two_at_a_time(retention: Any) -> None:
    assert [task.task_id for task in retention.tasks] == ["remove_old_files"]
    assert (retention.schedule, retention.catchup, retention.max_active_runs) == ("0 20 * * *", False, 1)
    assert [task.retries for task in retention.tasks] == [2]
    assert "retention_days" in retention.doc_md and "staging_days" in retention.doc_md


def test_the_retention_removes_files_unless_it_is_a_dry_run(retention: Any) -> None:
    assert {name: retention.params.get_param(name).value for name in retention.params} == {"dry_run": False}
    with pytest.raises(ParamValidationError):
        retention.params.get_param("dry_run").resolve("yes")


def test_the_check_is_one_task_that_runs_only_if_it_is_triggered(check: Any) -> None:
    assert [task.task_id for task in check.tasks] == ["check_installation"]
    assert (check.schedule, check.is_paused_upon_creation) == (None, False)
    # Without the pool of the stages, Airflow would not start it.
    assert [(task.retries, task.pool) for task in check.tasks] == [(0, "default_pool")]
