"""The instructions of deploy/image/Dockerfile in a clean environment: the package is there with Airflow's own version.

Other than in the image: pip installs Airflow too, and the constraints are the versions of dev/stores/requirements.txt, which
has the packages of the stores.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image_file import ARGUMENTS, INSTRUCTIONS
from tests.integration.test_wheel import LIST_DAGS, PROJECT, environment, printed

CHECK = """
import shutil, importlib.metadata as found, s3fs, airflow.providers.apache.cassandra
print(found.version("apache-airflow"), found.version("progress-exhaust"), shutil.which("progress-exhaust"))
"""


@pytest.mark.slow  # it downloads and installs Airflow: two minutes
def test_the_instructions_of_the_image_install_the_package_and_its_dags(tmp_path: Path) -> None:
    places = {"/tmp/source": tmp_path / "source", "/tmp/wheel": tmp_path / "wheel", "/opt/airflow": tmp_path / "airflow"}  # noqa: S108
    home, python = tmp_path / "home", tmp_path / "python"
    for folder in (*places.values(), home):
        folder.mkdir()
    pinned = re.findall(r"^([a-z0-9.-]+==[^\\\n]+)", (PROJECT / "dev/stores/requirements.txt").read_text(), re.MULTILINE)
    (home / "constraints.txt").write_text("\n".join(pinned))
    [airflow] = [line for line in pinned if line.startswith("apache-airflow==")]
    subprocess.run([sys.executable, "-m", "venv", str(python)], check=True)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL_ENV"))},
        "PATH": f"{python / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "AIRFLOW_HOME": str(places["/opt/airflow"]),
        "AIRFLOW_VERSION": airflow.partition("==")[2].strip(),
        "EXTRAS": ARGUMENTS["EXTRAS"],
    }

    def here(text: str) -> str:
        return re.sub("|".join(places), lambda found: str(places[found[0]]), text)

    for name, text in INSTRUCTIONS:
        if name == "RUN":
            done = subprocess.run(["sh", "-ec", here(text)], env=env, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        elif name == "COPY" and "--from" not in text:
            *sources, target = text.split()[1:]
            for source in sources:
                copy(PROJECT / source, Path(here(target)) / (source if target.endswith("/") else ""))

    ours = environment(places["/opt/airflow"], PATH=env["PATH"])
    answer = printed(python / "bin/python", CHECK, env=ours)
    assert answer == f"{env['AIRFLOW_VERSION']} 0.1.0 {python / 'bin/progress-exhaust'}"
    found = printed(python / "bin/python", LIST_DAGS, str(places["/opt/airflow"] / "dags"), env=ours)
    assert found == "['progress_exhaust', 'progress_exhaust_check', 'progress_exhaust_retention'] []"
    assert subprocess.run([python / "bin/pip", "check"], env=env, capture_output=True).returncode == 0


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
