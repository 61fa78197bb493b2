"""What deploy/image/Dockerfile promises: the official image of the tested Airflow, and only the package of this project."""

import re
from pathlib import Path

import yaml

from tests.image_file import ARGUMENTS, INSTRUCTIONS

PROJECT = Path(__file__).resolve().parents[2]


def test_it_is_the_official_image_of_the_tested_airflow() -> None:
    [version] = re.findall(r"^apache-airflow==([^ ]+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"apache/airflow:{re.escape(version)}-python3\.1[12]", ARGUMENTS["AIRFLOW_IMAGE"])
    assert {text for name, text in INSTRUCTIONS if name == "FROM"} == {"${AIRFLOW_IMAGE}", "${AIRFLOW_IMAGE} AS wheel"}
    compose = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())
    assert compose["x-airflow"]["image"] == f"progress-exhaust-airflow:{version}"


def test_airflow_keeps_its_version_and_its_constraints() -> None:
    [install] = [text for name, text in INSTRUCTIONS if name == "RUN" and "pip install" in text]
    assert '"apache-airflow==${AIRFLOW_VERSION}"' in install and '--constraint "${HOME}/constraints.txt"' in install


def test_its_user_is_airflows() -> None:
    assert not [text for name, text in INSTRUCTIONS if name == "USER"]


def test_docker_is_given_the_package_and_the_dag_files_alone() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    given = {line[1:] for line in ignored if line.startswith("!")}
    copied = {word for name, text in INSTRUCTIONS if name == "COPY" and "--from" not in text for word in text.split()[1:-1]}
    assert ignored[0] == "*" and given == copied == {"plugins", "dags", "pyproject.toml", "README.md", "LICENSE"}
    assert all((PROJECT / source).exists() for source in copied)
