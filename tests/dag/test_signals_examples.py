"""The examples of docs/how-to/monitor.md, as far as they can be tried without the systems that they are for."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from progress_exhaust.failure_notifier import failure_callback
from progress_exhaust.lineage import package, sources
from progress_exhaust.operators.mark_complete import REPORT
from progress_exhaust.settings import Settings
from progress_exhaust.stages.site_setup import Site
from tests.airflow_versions import DagBag

PAGES = Path(__file__).resolve().parents[2] / "docs"
DOCS = (PAGES / "how-to/monitor.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


def test_the_follower_is_a_dag_that_follows_the_reports(tmp_path: Path) -> None:
    [source] = blocks("python")
    (tmp_path / "follower.py").write_text(source)
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    assert bag.dags["follower"].timetable.asset_condition == REPORT
    assert f"`{REPORT.name}`" in DOCS


def test_the_notifier_can_be_made() -> None:
    [line] = [block for block in blocks("sh") if "NOTIFIER" in block]
    text = shlex.split(line)[1].partition("=")[2]
    callback, error = failure_callback(text)
    assert error == ""
    assert callback is not None


@pytest.mark.parametrize(
    ("container", "named"),
    [
        ("file:///srv/reports", ("file", "/srv/reports/k/x.zip")),
        ("s3://bucket/below/", ("s3://bucket", "below/k/x.zip")),
        ("abfss://reports@account.dfs.core.windows.net", ("abfss://reports@account.dfs.core.windows.net", "k/x.zip")),
    ],
)
def test_a_published_file_is_named_as_lineage_names_files(container: str, named: Any) -> None:
    assert package(container, "k/x.zip") == (named,)


@pytest.mark.parametrize(
    ("uri", "namespace"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host/api/content", "http://host:80"),
        ("https://host/api/content", "https://host:443"),
        ("http://https%3A%2F%2Fsomebody%3Aa-secret%40host%2Fapi", "https://host:443"),
        ("http://https%3A%2F%2Fhost%3A8443%2Fapi", "https://host:8443"),
    ],
)
def test_a_source_is_named_as_it_is_called_and_without_its_login(
    monkeypatch: pytest.MonkeyPatch, uri: str, namespace: str
) -> None:
    connections = {"CASSANDRA": "cassandra://user:a-secret@one,two", "USERS": "redis://:a-secret@cache", "CONTENT": uri}
    for name, value in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_PROGRESS_EXHAUST_{name}", value)
    site = Site(Settings(), "run")
    assert [name for name, _ in sources(site.settings)] == ["cassandra://one:9042"] * 4 + ["redis://cache:6379"] * 2 + [namespace]
    with site.content_api() as api:
        assert "a-secret" not in api._where()
