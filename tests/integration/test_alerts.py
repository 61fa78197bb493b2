"""Prometheus's own tool accepts the alerts and the dashboard of deploy/monitoring/, and the alerts fire when they should."""

import json
import subprocess
from pathlib import Path

import pytest

from dev.machine import install_promtool

PROJECT = Path(__file__).resolve().parents[2]
MONITORING = PROJECT / "deploy" / "monitoring"
pytestmark = pytest.mark.usefixtures("promtool")


@pytest.fixture(scope="module")
def promtool() -> None:
    install_promtool()


def run(*words: str) -> None:
    done = subprocess.run(["promtool", *words], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_when_they_should() -> None:
    run("test", "rules", "tests/monitoring/alerts_test.yaml")


def test_the_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    queries = [target["expr"].replace("$__rate_interval", "1h") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "dashboard.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run("check", "rules", str(tmp_path / "dashboard.yaml"))
