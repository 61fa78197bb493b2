"""Test the notifier of failed runs, which the DAG file reads from the environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
HTTP = "airflow.providers.http.notifications.HttpNotifier"
SCRIPT = (
    "import json; from airflow.dag_processing.dagbag import DagBag;"
    f"bag = DagBag({str(PROJECT / 'dags')!r}); dag = bag.dags['progress_exhaust'];"
    "print(json.dumps([bag.import_errors, dag.has_on_failure_callback, dag.doc_md]))"
)


def parsed(notifier: str) -> tuple[dict[str, str], bool, str]:
    environment = os.environ | {"PROGRESS_EXHAUST_FAILURE_NOTIFIER": notifier, "PYTHONPATH": str(PROJECT / "plugins")}
    answer = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    found: tuple[dict[str, str], bool, str] = tuple(json.loads(answer.stdout.splitlines()[-1]))
    return found


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
