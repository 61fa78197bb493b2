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
IMAGE = "progress-exhaust-airflow:3.3.2"
OURS = {name for name, service in SERVICES.items() if service["image"] == IMAGE}
# The names of secrets in the file, and the passwords of the owners of the sources.
OWNERS = {"POSTGRES_PASSWORD", "CASSANDRA_PASSWORD", "REDIS_PASSWORD"}
each_service = pytest.mark.parametrize("name", sorted(SERVICES))
ON_REQUEST = {"COMPOSE_PROFILES": "on-request", "PROGRESS_EXHAUST_ON_REQUEST": "true"}


def test_all_of_airflow_and_of_its_sources_is_there() -> None:
    assert set(SERVICES) == {
        "postgres", "redis", "cassandra", "content-api", "store", "set-up", "sample-data", "broker",
        "api-server", "scheduler", "dag-processor", "triggerer", "worker",
    }  # fmt: skip


def test_only_the_profile_on_request_has_a_triggerer() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "sample-data": ["sample-data"],
        "triggerer": ["on-request"],
    }
    # Every service of Airflow reads the DAG file.
    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker"):
        assert SERVICES[name]["environment"]["PROGRESS_EXHAUST_ON_REQUEST"] == "${PROGRESS_EXHAUST_ON_REQUEST:-false}"
    assert all("triggerer" not in (service.get("depends_on") or {}) for service in SERVICES.values())


def test_what_airflows_database_needs_does_not_wait_for_it() -> None:
    # The entrypoint of Airflow's image waits for the database, and set-up makes it.
    waiting = {"set-up"}
    while more := {one for name in waiting for one in SERVICES[name].get("depends_on") or ()} - waiting:
        waiting |= more
    of_airflow = {name for name in waiting if SERVICES[name]["image"] == SERVICES["scheduler"]["image"]}
    assert of_airflow == {"set-up", "content-api"}
    assert all(SERVICES[name]["entrypoint"] == [] for name in of_airflow)


@each_service
def test_each_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[name]["image"])


def test_one_service_builds_the_image_of_all() -> None:
    assert {name: service["build"] for name, service in SERVICES.items() if "build" in service} == {
        "set-up": {"context": ".", "dockerfile": "deploy/image/Dockerfile"}
    }
    assert {
        "content-api", "set-up", "sample-data", "api-server", "scheduler", "dag-processor", "triggerer", "worker",
    } == OURS  # fmt: skip


def test_store_is_the_version_of_the_tests() -> None:
    [version] = re.findall(r"^moto==([^ ]+)", (PROJECT / "dev/stores/requirements.txt").read_text(), re.MULTILINE)
    assert SERVICES["store"]["image"] == f"motoserver/moto:{version}"


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


def test_only_the_servers_that_sign_tokens_have_their_secret() -> None:
    assert {name for name in SERVICES if "JWT_SECRET" in secrets_of(name)} == {"api-server", "scheduler"}


def secrets_of(name: str) -> set[str]:
    """Return the names of the secrets that a service is given."""
    return set(re.findall(r"\$\{([A-Z_]+):\?", str(SERVICES[name])))


@each_service
def test_memory_and_logs_have_a_limit(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


def test_redis_gives_the_login_of_the_tasks_the_rights_of_docs_grants() -> None:
    _, name, *rules = (PROJECT / "docs/grants/redis.acl").read_text().split()
    words = SERVICES["redis"]["command"]
    given = words[words.index("--user") + 1 :]
    assert given == [name, *(given[2] if rule == ">PASSWORD" else rule for rule in rules)]
    assert given[2].startswith(">${EXHAUST_PASSWORD:?")


@each_service
def test_least_rights(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    if name not in ONCE:
        assert OWNERS & secrets_of(name) == {"postgres": {"POSTGRES_PASSWORD"}, "redis": {"REDIS_PASSWORD"}}.get(name, set())
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
    assert len(found) == 16
    assert [value for value in found if not re.match(r"\$\{[A-Z_]+:\?", value)] == []


def test_runs_on_request_are_on_by_default(tmp_path: Path) -> None:
    assert made_environment(tmp_path).items() >= ON_REQUEST.items()
    assert ON_REQUEST["COMPOSE_PROFILES"] in SERVICES["triggerer"]["profiles"]


def test_the_command_at_its_head_makes_every_secret_that_it_asks_for(tmp_path: Path) -> None:
    wanted = set(re.findall(r"\$\{([A-Z_]+)(?::\?|})", TEXT))
    made = made_environment(tmp_path)
    assert set(made) == wanted | set(ON_REQUEST)
    assert len({made[name] for name in wanted if len(made[name]) >= 44}) == len(wanted)
    assert len(made["JWT_SECRET"]) >= 64  # of HS512, which signs with it
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


@pytest.mark.parametrize("profile", [[], ["--profile", "*"]])
def test_docker_compose_accepts_the_file(tmp_path: Path, profile: list[str]) -> None:
    made_environment(tmp_path)
    done = configured(tmp_path, *profile)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_its_secrets_docker_compose_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    done = configured(tmp_path)
    assert done.returncode and "make .env, as docker-compose.yaml says" in done.stderr


def configured(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Let Compose check the file with the .env of a folder."""
    compose = next((words for words in (["docker", "compose"], ["docker-compose"]) if is_compose_2(words)), None)
    if compose is None:
        pytest.skip("Compose 2 is missing: apt-get install docker-compose-v2, or docker-compose-plugin of Docker")
    command = [*compose, "--env-file", str(folder / ".env"), "--file", str(FILE), *options, "config", "--quiet"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def is_compose_2(words: list[str]) -> bool:
    if not shutil.which(words[0]):
        return False
    version = subprocess.run([*words, "version", "--short"], capture_output=True, text=True)
    return version.returncode == 0 and not version.stdout.startswith("1.")
