"""What docker-compose.yaml promises: pinned images, health checks, nothing secret in it, nothing open to the network."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose_file import FILE, TEXT, made_environment

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"set-up", "sample-data"}
OURS = {name for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (PROJECT / "dev" / "image" / "Dockerfile").read_text()
each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_all_of_airflow_and_of_its_sources_is_there() -> None:
    assert set(SERVICES) == {
        "postgres", "redis", "cassandra", "content-api", "store", "set-up", "sample-data", "broker",
        "api-server", "scheduler", "dag-processor", "triggerer", "worker",
    }  # fmt: skip


def test_a_run_starts_as_soon_as_a_request_is_submitted() -> None:
    """Every service of Airflow reads the DAG file, and the triggerer runs the trigger."""
    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        assert SERVICES[name]["environment"]["PROGRESS_EXHAUST_ON_REQUEST"] == "true"
    assert SERVICES["triggerer"]["command"][:2] == ["airflow", "triggerer"]


@each_service
def test_each_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[name]["image"])


def test_our_image_is_of_the_pinned_airflow_and_installs_nothing_unchecked() -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (PROJECT / "dev/image/requirements.txt").read_text(), re.MULTILINE))
    assert {SERVICES[name]["image"] for name in OURS} == {f"progress-exhaust-airflow:{locked['apache-airflow']}"}
    assert {"moto", "s3fs", "apache-airflow-providers-amazon", "apache-airflow-providers-celery"} <= set(locked)
    assert re.search(r"^FROM python:3\.1[12]\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    [install] = re.findall(r"pip install (.*)", DOCKERFILE)
    assert "--require-hashes" in install and "--no-deps" in install
    assert "USER airflow" in DOCKERFILE
    for source in re.findall(r"^COPY (\S+)", DOCKERFILE, re.MULTILINE):
        assert f"!{source}" in (PROJECT / ".dockerignore").read_text()


@each_service
def test_what_goes_on_has_a_health_check_and_starts_again(name: str) -> None:
    service = SERVICES[name]
    if name in ONCE:
        assert service["restart"] == "no" and "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])


@each_service
def test_no_port_is_open_but_on_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert not {"network_mode", "privileged", "pid", "expose"} & set(SERVICES[name])


@each_service
def test_what_each_waits_for_is_there_and_can_come(name: str) -> None:
    for other, how in (SERVICES[name].get("depends_on") or {}).items():
        expected = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert other in SERVICES and how == {"condition": expected}


@each_service
def test_least_rights(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    if name in OURS:
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    for volume in SERVICES[name].get("volumes", []):
        source, _, mode = volume.partition(":")
        assert source in COMPOSE["volumes"] or ((PROJECT / source).is_dir() and mode.endswith(":ro"))


@each_service
def test_each_script_of_a_command_exists(name: str) -> None:
    command = SERVICES[name].get("command", [])
    for word in command:
        if word.startswith("/project/"):
            assert (PROJECT / word.removeprefix("/project/")).is_file()
            assert "./dev:/project/dev:ro" in SERVICES[name]["volumes"]


def test_no_secret_stands_in_the_file() -> None:
    secret = re.compile(r"(?:PASSWORD|SECRET|_KEY): (.+)|://[\w-]+:([^/\n]*)@")
    found = [first or second for first, second in secret.findall(TEXT)]
    assert len(found) == 7
    assert [value for value in found if not re.match(r"\$\{[A-Z_]+:\?", value)] == []


def test_the_command_at_its_head_makes_every_secret_that_it_asks_for(tmp_path: Path) -> None:
    wanted = set(re.findall(r"\$\{([A-Z_]+)[:}]", TEXT))
    made = made_environment(tmp_path)
    assert set(made) == wanted
    assert len({value for value in made.values() if len(value) >= 44}) == len(wanted)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    with pytest.raises(subprocess.CalledProcessError):
        made_environment(tmp_path)  # Postgres keeps the password of its first start
    assert dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines()) == made


def test_git_leaves_the_secrets_out() -> None:
    assert "/.env" in (PROJECT / ".gitignore").read_text().splitlines()


def test_postgres_is_asked_where_its_clients_are() -> None:
    # By its socket, the image's server answers while it makes the database, and is then stopped for a moment.
    assert SERVICES["postgres"]["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "-h", "127.0.0.1"]


def test_the_docs_give_the_same_commands() -> None:
    page = (PROJECT / "docs/how-to/run-with-docker-compose.md").read_text()
    for line in re.findall(r"^#   (.*)$|^#    (echo .*)$", TEXT, re.MULTILINE):
        assert "".join(line) in page


def test_the_worker_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["worker"])


def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose is missing: apt-get install docker-compose")
    made_environment(tmp_path)
    command = ["docker-compose", "--env-file", str(tmp_path / ".env"), "--file", str(FILE), "config", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_its_secrets_docker_compose_says_what_to_do(tmp_path: Path) -> None:
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose is missing: apt-get install docker-compose")
    (tmp_path / ".env").touch()
    command = ["docker-compose", "--env-file", str(tmp_path / ".env"), "--file", str(FILE), "config", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "make .env, as docker-compose.yaml says" in done.stderr
