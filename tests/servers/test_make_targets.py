"""The `make` commands of README and docs, in a folder of their own."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from tests.servers.site import PROJECT

RUNBOOK = (PROJECT / "docs/how-to/runbook.md").read_text()


def made(command: str, environment: Mapping[str, str]) -> str:
    """Run a `make` command, but for the making of the environment; return what is printed."""
    [make, *words] = shlex.split(command)
    done = subprocess.run(
        [make, "--old-file=.venv/.installed", f"PY={sys.executable}", *words],
        cwd=PROJECT, env=dict(environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str]]:
    """Make reports of new requests in a new folder, then the demo; return its environment, and what it printed."""
    data = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PROGRESS_", "MAKE"))}
    environment |= {
        "PROGRESS_EXHAUST_DEV_DATA": str(data),
        "AIRFLOW_HOME": str(data / "airflow-run"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    try:
        assert "7 requests are submitted" in made("make demo-data", environment)
        assert "The run ended: success" in made("make run", site(environment))
        yield environment, made("make demo", environment)
    finally:
        made("make down", environment)


def test_the_demo_shows_what_became_of_each_request(demo: tuple[dict[str, str], str]) -> None:
    environment, printed = demo
    assert "The run ended: success" in printed
    # Four of the seven can be made. The run before the demo had what `make demo-data` loads into an empty folder.
    assert made("make status", environment).count(" SUCCESS ") == 2 * 4
    assert "FAILED     The request is made for retired collection" in printed
    files = re.findall(r"^    (/\S+\.zip)$", printed, re.MULTILINE)
    assert files and all(Path(file).is_file() for file in files)
    assert "Collection Id,Collection Name,Batch Id" in printed


def site(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a user with their own connections: here, those of the demo."""
    known = subprocess.run(
        [sys.executable, "dev/services.py", "env"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    return {**environment, **dict(shlex.split(line)[1].split("=", 1) for line in known.splitlines())}


@pytest.mark.parametrize("page", ["docs/tutorials/existing-airflow.md", "docs/how-to/migrate-from-the-spark-job.md"])
def test_a_dry_run_publishes_nothing(demo: tuple[dict[str, str], str], page: str) -> None:
    """The page's command, against a site's connections."""
    environment, printed = demo
    [command] = re.findall(r"(?:^|`)(CONF='.*true}') make run(?:$|`)", (PROJECT / page).read_text(), re.MULTILINE)
    conf = shlex.split(command)[0].partition("=")[2]
    done = re.findall(r"^(\w{32})  SUCCESS", printed, re.MULTILINE)[0]
    if page == "docs/tutorials/existing-airflow.md":
        assert json.loads(conf) == {"request_ids": ["778A3669531143769B5E8C98D42E1CAD"], "dry_run": True}
        conf = json.dumps(json.loads(conf) | {"request_ids": [done], "force": True})
    made("make demo-data", environment)
    reports = Path(environment["PROGRESS_EXHAUST_DEV_DATA"], "reports")
    before = files(reports)
    assert "success" in made("make run", site(environment) | {"CONF": conf})
    assert files(reports) == before


def files(folder: Path) -> dict[Path, int | None]:
    """Return everything in a folder, each file with the time of its last change. A dry run tries whether it can write a file."""
    return {path: path.stat().st_mtime_ns if path.is_file() else None for path in folder.rglob("*")}


def test_the_runbook_finds_who_has_a_request(demo: tuple[dict[str, str], str]) -> None:
    """With the demo's connections, and with a site's."""
    environment, _ = demo
    status_of_one, why, status, submit = re.findall(r"^(make (?:status|why|submit).*?)(?: +#.*)?$", RUNBOOK, re.MULTILINE)
    batch, request = (re.findall(r"=(\w+)$", command)[0] for command in (why, status_of_one))
    entered = made(submit, environment)
    new = entered.split()[0]
    assert entered == f"{new}  SUBMITTED: the next run takes it. `status {new}` shows its state\n"
    for known in (environment, site(environment)):
        assert f"\n{new} " in made("make status", known)
        one = made(status_of_one.replace(request, new), known)
        assert [line.split()[0] for line in one.splitlines()[:2]] == ["REQUEST", new]
        assert "No run has listed its batches yet." in one
        assert f"{new}  SUBMITTED" in made(why, known)
    assert (status, batch in submit) == ("make status", True)


def test_airflow_goes_up_and_says_where(demo: tuple[dict[str, str], str]) -> None:
    environment, _ = demo
    printed = made("make up", environment)
    [url, password] = re.findall(r"airflow    ready: (http://127.0.0.1:\d+)  user admin  password (\S+)", printed)[0]
    login = requests.post(f"{url}/auth/token", json={"username": "admin", "password": password}, timeout=30)
    assert login.ok
    # `make status` asks this Airflow. Another one would call this one's claims those of another installation.
    asked = [sys.executable, "dev/airflow_servers.py", "command-env"]

    def database() -> bool:
        known = subprocess.run(asked, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True).stdout
        return "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in known

    assert database()
    subprocess.run([sys.executable, "dev/airflow_servers.py", "stop"], cwd=PROJECT, env=environment, check=True)
    assert not database()
    made("make up", environment)
    stopped = made("make down", environment)
    assert "scheduler stopped" in stopped and "triggerer stopped" in stopped
