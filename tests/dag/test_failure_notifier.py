"""Test the notifier of failed runs, which the DAG file reads from the environment."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_versions import DagBag

PROJECT = Path(__file__).resolve().parents[2]
HTTP = "airflow.providers.http.notifications.HttpNotifier"


def parsed(notifier: str) -> tuple[dict[str, str], bool, str]:
    """Parse the DAG files with this notifier; return the import errors, whether the DAG calls it, and the DAG's page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGRESS_EXHAUST_FAILURE_NOTIFIER", notifier)
        bag = DagBag(str(PROJECT / "dags"))
    dag = bag.dags["progress_exhaust"]
    return bag.import_errors, dag.has_on_failure_callback, dag.doc_md or ""


def test_notifier_is_a_callback_of_the_dag() -> None:
    errors, called, page = parsed(json.dumps({"class": HTTP, "arguments": {"endpoint": "x"}}))
    assert (errors, called) == ({}, True)
    assert "No message is sent" not in page


@pytest.mark.parametrize(
    ("notifier", "said"),
    [
        ("{", "JSONDecodeError"),
        ({"class": "no.such.Notifier"}, "ModuleNotFoundError"),
        ({"class": "pathlib.Path"}, "pathlib.Path is not an Airflow notifier"),
        ({"class": HTTP, "arguments": {"adress": 1}}, "adress"),
        ({"klass": HTTP}, "unknown key klass"),
        ({"arguments": {}}, "KeyError"),
    ],
)
def test_mistake_is_on_the_dags_page_and_does_not_stop_the_dag(notifier: Any, said: str) -> None:
    errors, called, page = parsed(notifier if isinstance(notifier, str) else json.dumps(notifier))
    assert (errors, called) == ({}, False)
    first = page.splitlines()[0]
    assert first.startswith("**No message is sent for failed runs, because PROGRESS_EXHAUST_FAILURE_NOTIFIER is not valid: ")
    assert said in first
