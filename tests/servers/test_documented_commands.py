"""The runbook's commands, as an engineer types them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.site import OVER, PROJECT, Site, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="the runbook's commands need curl")

RUNBOOK = (PROJECT / "docs/how-to/runbook.md").read_text()


def commands(heading: str) -> list[str]:
    """Return the shell commands below a heading of the runbook."""
    [_, section] = re.split(rf"^## {heading}$", RUNBOOK, flags=re.MULTILINE)
    return re.findall(r"^```sh\n(.*?)^```$", re.split(r"^## ", section, flags=re.MULTILINE)[0], re.MULTILINE | re.DOTALL)


def typed(site: Site, command: str, **words: str) -> str:
    """Run a command in a shell that knows what the runbook's first lines set; return what it prints."""
    [set_up] = re.findall(r"^```sh\n(API=.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    password = json.loads((site.data / "airflow-passwords.json").read_text())["admin"]
    script = set_up.replace("http://127.0.0.1:19006", site.airflow.url).replace("PASSWORD", password) + command
    for word, meant in {**words, ".venv/bin/python": sys.executable}.items():
        script = script.replace(word, meant)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=PROJECT, env={**site.environment, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_stage_then_one_request_then_one_night(site: Site) -> None:
    """A batch that was done has nothing in staging, as the runbook says: force makes its request again."""
    request = site.request(*site.batches[:4])
    run = site.airflow.run(request_ids=[request])
    published = site.published(request)
    find_failed, clear = commands("Rerun one stage of one batch")
    [force] = commands("Make one request again")
    [failed_tasks] = commands("Rerun all failed tasks of a run")

    cleared = json.loads(typed(site, clear, RUN=run))["task_instances"]
    assert ("batch.pivot", 3) in {(one["task_id"], one["map_index"]) for one in cleared}
    assert site.airflow.end_of(run) == "failed"
    assert "missing from staging" in site.airflow.log(run, "batch.pivot", 3)
    failed = [line.split()[:2] for line in typed(site, find_failed, RUN=run).splitlines()]
    assert sorted(failed) == [["batch.pivot", "3"], ["settle_requests", "-1"]]

    again = json.loads(typed(site, failed_tasks, RUN=run))["task_instances"]
    assert "batch.pivot" in {one["task_id"] for one in again}
    assert site.airflow.end_of(run) == "failed"

    forced = json.loads(typed(site, force, REQUEST=request))["dag_run_id"]
    assert site.airflow.end_of(forced) == "success"
    assert site.row(request)["status"] == "SUCCESS"
    assert site.published(request).keys() == published.keys()


def test_one_night_that_never_ran(site: Site) -> None:
    backfills = "/api/v2/backfills?dag_id=progress_exhaust"
    wait_until(lambda: all(one["completed_at"] for one in site.airflow.call(backfills)["backfills"]), "the others' backfills")
    [backfill] = commands("Make up for a day without a run")
    typed(site, backfill.replace("2026-11-20", "2026-02-03"))
    day = {"run_after_gte": "2026-02-03T00:00:00Z", "run_after_lte": "2026-02-04T00:00:00Z"}
    query = "&".join(f"{name}={moment}" for name, moment in day.items())

    def has_ended() -> bool:
        runs = site.airflow.call(f"/api/v2/dags/progress_exhaust/dagRuns?{query}")["dag_runs"]
        return bool(runs) and all(run["state"] in OVER for run in runs)

    wait_until(has_ended, "the backfill")


def test_the_newest_run_is_listed(site: Site) -> None:
    run = site.airflow.run(request_ids=[site.request(site.batches[5])])
    [find_run] = commands("Find the id of a run")
    assert f"{run} success " in typed(site, find_run)


def test_the_pool_gets_fewer_slots(site: Site) -> None:
    """Only the command's slots differ from what the site has, so that the other tests go on as they were."""
    [lower] = [one for one in commands("Stop a run that overloads Cassandra") if "/pools/" in one]
    before = site.airflow.call("/api/v2/pools/progress_exhaust")
    after = json.loads(typed(site, lower.replace('"slots": 1', f'"slots": {before["slots"]}')))
    assert [after[name] for name in ("name", "slots", "description")] == [
        before[name] for name in ("name", "slots", "description")
    ]


def test_what_retention_would_remove(site: Site) -> None:
    [look] = commands("Make space in a full store")
    assert json.loads(typed(site, look))["conf"] == {"dry_run": True}


def test_who_has_this_request(site: Site) -> None:
    request = site.request(site.batches[2])
    run = site.airflow.run(request_ids=[request])
    [block] = re.findall(r"^```sql\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    holder, story = block.strip().rstrip(";").split(";\n")
    assert site.sql(holder.replace("REQUEST", request)) == []  # it is done, and no run holds it
    [line] = site.sql(story.replace("REQUEST", request))
    assert (line["run_id"], line["batch_id"], line["stage"], line["state"]) == (
        run, site.batches[2], "mark_complete", "done",
    )  # fmt: skip
