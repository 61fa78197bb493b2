"""Airflow's plugin loader imports files below plugins/ by bare names: it must find only plugin.py, and hide no other module."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded() if hasattr(plugins_manager, "ensure_plugins_loaded") else plugins_manager._get_plugins()
import cassandra.cluster, psycopg2, redis, requests, packaging
import progress_exhaust.operators.extract
print(json.dumps({name: sys.modules[name].__file__ for name in ("cassandra", "psycopg2", "redis", "requests", "packaging")}
                 | {"errors": sorted(getattr(plugins_manager, "import_errors", {}))}
                 | {"ours": sorted(name for name, module in sys.modules.items()
                                   if "progress_exhaust/" in (getattr(module, "__file__", "") or ""))}))
"""


def test_the_drivers_are_still_the_drivers_after_the_loader_ran() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found.pop("errors") == []
    ours = found.pop("ours")
    assert ours
    assert [name for name in ours if not name.startswith("progress_exhaust")] == ["plugin"]
    assert not [name for name in ours if "page" in name], "only the API server needs the page, at its first request"
    assert all("site-packages" in file for file in found.values()), found


PRELOADED = """
import sys
sys.argv = ["airflow", *sys.argv[1:]]
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
print([name in sys.modules for name in ("pandas", "pyarrow.dataset", "stream_zip", "cassandra.cluster", "psycopg")])
"""


@pytest.mark.parametrize(
    ("words", "there"), [(["scheduler"], True), (["celery", "worker"], True), (["api-server"], False), (["dag-processor"], False)]
)
def test_only_what_forks_tasks_imports_their_drivers_ahead(words: list[str], there: bool) -> None:
    answer = subprocess.run([sys.executable, "-c", PRELOADED, *words], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert answer.stdout.splitlines()[-1] == str([there] * 5)
