"""`make demo`, `demo-data`, `run` and `down`: what their recipes do, in a folder of their own."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.site import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()


def made(target: str, environment: Mapping[str, str]) -> str:
    """Run a target and what it depends on, but for the making of the environment; return what is printed."""
    found = re.search(rf"^{target}:([a-z ]*)(?:##.*)?\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found
    printed = "".join(made(one, environment) for one in found[1].split() if one != "env")
    script = found[2].replace("$(PY)", sys.executable).replace("\t@", "")
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=PROJECT, env=dict(environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return printed + done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str]]:
    """Make the demo; return its environment, and what it printed."""
    data = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PROGRESS_"))}
    environment |= {
        "PROGRESS_EXHAUST_DEV_DATA": str(data),
        "AIRFLOW_HOME": str(data / "airflow-run"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    try:
        yield environment, made("demo", environment)
    finally:
        made("down", environment)


def test_the_demo_shows_what_became_of_each_request(demo: tuple[dict[str, str], str]) -> None:
    _, printed = demo
    assert "The run ended: success" in printed
    assert printed.count(" SUCCESS ") >= 4
    assert "FAILED     The request is made for retired collection" in printed
    files = re.findall(r"^    (/\S+\.zip)$", printed, re.MULTILINE)
    assert files and all(Path(file).is_file() for file in files)
    assert "Collection Id,Collection Name,Batch Id" in printed


def test_another_demo_takes_new_requests(demo: tuple[dict[str, str], str]) -> None:
    environment, _ = demo
    assert "requests are submitted" in made("demo-data", environment)
    assert "The run ended: success" in made("demo", environment)


def test_a_dry_run_publishes_nothing(demo: tuple[dict[str, str], str]) -> None:
    """The README's command, against a site's connections."""
    environment, printed = demo
    [command] = re.findall(r"^(CONF=.*) make run$", (PROJECT / "README.md").read_text(), re.MULTILINE)
    request = re.findall(r"^(\w{32})  SUCCESS", printed, re.MULTILINE)[0]
    conf = json.loads(shlex.split(command)[0].partition("=")[2])
    assert conf == {"request_ids": ["778A3669531143769B5E8C98D42E1CAD"], "dry_run": True}
    known = subprocess.run(
        [sys.executable, "dev/services.py", "env"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    site = dict(shlex.split(line)[1].split("=", 1) for line in known.splitlines())
    reports = Path(environment["PROGRESS_EXHAUST_DEV_DATA"], "reports")
    before = {path: path.stat().st_mtime_ns for path in reports.rglob("*")}
    conf |= {"request_ids": [request], "force": True}
    assert "success" in made("run", environment | site | {"CONF": json.dumps(conf)})
    assert {path: path.stat().st_mtime_ns for path in reports.rglob("*")} == before
