"""deploy/helm: the values fit the chart and each other, and what they say to Airflow and to the package is right."""

import json
import os
import re
import shutil
import subprocess
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, validators

from progress_exhaust.settings import parse_settings
from tests.helm_keys import CHART

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "deploy" / "helm"
FILES = {path.stem.removeprefix("values").removeprefix("-"): yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
EXECUTORS = ("kubernetes", "celery")
OPTIONS = ("on-request", "git-bundle")
SETS = [(executor, *options) for executor, options in product(EXECUTORS, [(), OPTIONS])]
VOLUME_BYTES = {"Mi": 2**20, "Gi": 2**30}


def merged(*names: str) -> dict[str, Any]:
    """Return the values as Helm merges the files: objects by key, everything else as a whole."""

    def merge(one: Any, other: Any) -> Any:
        if isinstance(one, dict) and isinstance(other, dict):
            return {key: merge(one.get(key, other.get(key)), other.get(key, one.get(key))) for key in {**one, **other}}
        return other

    return reduce(merge, (FILES[name] for name in ("", *names)))


def pod(executor: str) -> dict[str, Any]:
    """Return the values of the pod that runs tasks."""
    return dict(merged(executor)["workers"][executor])


def size(quantity: str) -> int:
    return int(quantity[:-2]) * VOLUME_BYTES[quantity[-2:]]


def test_files() -> None:
    assert set(FILES) == {"", *EXECUTORS, *OPTIONS}
    assert {FILES[executor]["executor"].removesuffix("Executor").lower() for executor in EXECUTORS} == set(EXECUTORS)


@pytest.mark.parametrize("names", SETS)
def test_values_have_the_keys_of_the_chart(names: tuple[str, ...]) -> None:
    values = merged(*names)
    assert [f"{error.json_path}: {error.message}" for error in Draft202012Validator(CHART).iter_errors(values)] == []


@pytest.mark.parametrize("names", SETS)
def test_chart_accepts_the_values(names: tuple[str, ...]) -> None:
    """It is not in the package registries, so CI has no chart."""
    chart = os.environ.get("AIRFLOW_CHART")
    if not chart:
        pytest.skip("AIRFLOW_CHART is not set: the folder of Airflow's Helm chart, unpacked")
    schema = json.loads((Path(chart) / "values.schema.json").read_text())
    whole = validators.validator_for(schema)(schema)
    assert [f"{error.json_path}: {error.message}" for error in whole.iter_errors(merged(*names))] == []
    for name in names:  # workers.kubernetes and workers.celery accept unknown keys in the chart
        for key in FILES[name].get("workers", {}).get(name, {}):
            assert key in schema["properties"]["workers"]["properties"][name]["properties"]
    if shutil.which("helm"):
        files = [
            word for name in ("values", *(f"values-{name}" for name in names)) for word in ("--values", f"{FOLDER}/{name}.yaml")
        ]
        done = subprocess.run(["helm", "template", "airflow", chart, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_image_is_the_tested_airflow() -> None:
    [version] = re.findall(r"^apache-airflow==([^ ]+)", (PROJECT / "requirements.txt").read_text(), re.MULTILINE)
    base = FILES[""]
    assert base["defaultAirflowTag"] == base["airflowVersion"] == version
    assert base["defaultAirflowRepository"].endswith("/progress-exhaust-airflow")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_temporary_folder_has_a_volume_with_a_limit_and_room_in_the_limit_of_the_pod(executor: str) -> None:
    values = pod(executor)
    [folder] = [one["value"] for one in values["env"] if one["name"] == "TMPDIR"]
    [mount] = values["extraVolumeMounts"]
    [volume] = values["extraVolumes"]
    assert (mount["mountPath"], mount["name"]) == (folder, volume["name"])
    assert size(volume["emptyDir"]["sizeLimit"]) < size(values["resources"]["limits"]["ephemeral-storage"])


@pytest.mark.parametrize("executor", EXECUTORS)
def test_pod_has_memory_for_the_processes_that_its_tasks_start(executor: str) -> None:
    values = merged(executor)
    limits = pod(executor)["resources"]["limits"]
    tasks = values["config"]["celery"]["worker_concurrency"] if executor == "celery" else 1
    assert tasks * int(limits["cpu"]) * 600 * 2**20 <= size(limits["memory"])


def test_each_mount_of_the_base_has_its_volume_and_only_the_group_reads_the_keys() -> None:
    [volume], [mount] = FILES[""]["volumes"], FILES[""]["volumeMounts"]
    assert mount["name"] == volume["name"] and mount["readOnly"]
    assert volume["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize("executor", EXECUTORS)
def test_only_the_file_of_on_request_has_a_triggerer(executor: str) -> None:
    assert merged(executor)["triggerer"] == {"enabled": False}
    assert "ON_REQUEST" not in str(merged(executor))
    on_request = merged(executor, "on-request")
    assert on_request["triggerer"]["enabled"] is True
    assert yaml.safe_load(on_request["extraEnv"]) == [{"name": "PROGRESS_EXHAUST_ON_REQUEST", "value": "true"}]


def test_variables_of_the_package_are_right() -> None:
    settings = (PROJECT / "docs/reference/settings.md").read_text()
    for variable in FILES[""]["env"]:
        if variable["name"] == "AIRFLOW_VAR_PROGRESS_EXHAUST":
            assert parse_settings(variable["value"]).staging_url.startswith("s3://")
        else:
            assert f"| `{variable['name']}` |" in settings


def test_json_in_airflows_configuration_is_json() -> None:
    text = FILES[""]["config"]["secrets"]["backend_kwargs"]
    assert {"url", "connections_path"} <= set(json.loads(text)) and "%" not in text


def test_mappings_of_statsd_are_those_of_the_monitoring() -> None:
    monitoring = yaml.safe_load((PROJECT / "deploy/monitoring/statsd-mappings.yaml").read_text())
    assert FILES[""]["statsd"]["extraMappings"] == monitoring["mappings"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_page_names_each_file(path: Path) -> None:
    assert f"`{path.name}`" in (PROJECT / "docs/how-to/install-in-containers.md").read_text()
