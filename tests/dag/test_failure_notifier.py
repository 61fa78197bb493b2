"""The notifier of failed runs, as the DAG's file reads it from the environment."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

PROJECT = Path(__file__).resolve().parents[2]
HTTP = "airflow.providers.http.notifications.HttpNotifier"


def parsed(notifier: str) -> tuple[dict[str, str], bool, str]:
    """Parse the DAG files with this notifier; return the import errors, whether the DAG calls it, and the DAG's page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGRESS_EXHAUST_FAILURE_NOTIFIER", notifier)
        bag = DagBag(str(PROJECT / "dags"))
    dag = bag.dags["progress_exhaust"]
    return bag.import_errors, dag.has_on_failure_callback, dag.doc_md or ""


def test_it_is_the_dags_own_and_no_tasks() -> None:
    errors, called, page = parsed(json.dumps({"class": HTTP, "arguments": {"endpoint": "x"}}))
    assert (errors, called) == ({}, True)
    assert "Nobody is told" not in page


@pytest.mark.parametrize(
    ("notifier", "said"),
    [
        ("{", "JSONDecodeError"),
        ({"class": "no.such.Notifier"}, "ModuleNotFoundError"),
        ({"class": "pathlib.Path"}, "pathlib.Path is no Airflow notifier"),
        ({"class": HTTP, "arguments": {"adress": 1}}, "adress"),
        ({"klass": HTTP}, "unknown key klass"),
        ({"arguments": {}}, "KeyError"),
    ],
)
def test_a_wrong_one_stands_on_the_dags_page_and_keeps_no_report_from_being_made(notifier: Any, said: str) -> None:
    errors, called, page = parsed(notifier if isinstance(notifier, str) else json.dumps(notifier))
    assert (errors, called) == ({}, False)
    first = page.splitlines()[0]
    assert first.startswith("**Nobody is told of failed runs: PROGRESS_EXHAUST_FAILURE_NOTIFIER must be like")
    assert said in first
