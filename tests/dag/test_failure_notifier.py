"""The notifier of failed runs, as the DAG's file reads it from the environment."""

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
