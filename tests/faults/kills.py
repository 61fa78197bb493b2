"""kill -9 at random moments of whole runs, then recovery, then a count of what is not as after a quiet night.

    python tests/faults/kills.py 200 --seed 1

Several runs are running at the same time, each on several requests and batches. What is killed: the process of a task, one of a
task's own processes, the worker above a task, and now and then one of Airflow's servers or of the services, which is then
started again. Recovery is what the runbook says: Airflow's own retries, failed tasks cleared, and the next night.
The seed chooses when, what kind and which one; how far the work is by then, the machine does.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import psycopg2
import requests

from tests.history.checker import check as check_history
from tests.history.recorder import read_history, record_history, stop_recording
from tests.servers.site import OVER, Site, parent, processes, wait_until, works_in
from tests.servers.start_up import started_site

Answer = TypeVar("Answer")

# How often each kind is chosen. A server's restart takes half a minute, a task's retry a second.
TASK_KINDS = {"task": 54, "process of a task": 24, "worker": 8}
AIRFLOW_KINDS = {"scheduler": 2, "scheduler and workers": 2, "dag-processor": 3, "api-server": 2}
SERVICE_KINDS = {"postgres": 2, "redis": 1, "cassandra": 1, "content": 1}
ALL_KINDS = TASK_KINDS | AIRFLOW_KINDS | SERVICE_KINDS

SERVERS = ("scheduler", "dag-processor", "api-server")

SECONDS_BETWEEN = 3.0  # two kills, at most
RUNS_AT_A_TIME = 3
REQUESTS_A_RUN = 2
NIGHTS_OF_RECOVERY = 5
PATIENCE_SECONDS = 600  # for what a loaded machine does after many kills


@dataclass(frozen=True)
class Moment:
    """One kill, as the seed chose it."""

    delay_seconds: float
    kind: str
    choice: float  # of those that there are, from 0 to 1


def moments(number: int, seed: int, kinds: Mapping[str, int] = ALL_KINDS) -> list[Moment]:
    rng = random.Random(seed)
    return [
        Moment(rng.uniform(0, SECONDS_BETWEEN), rng.choices(list(kinds), list(kinds.values()))[0], rng.random())
        for _ in range(number)
    ]


@dataclass
class Found:
    """What differs from a quiet night, as messages."""

    lost: list[str] = field(default_factory=list)  # no SUCCESS, or no file
    double: list[str] = field(default_factory=list)  # a second file, or made by two runs
    wrong: list[str] = field(default_factory=list)  # other bytes, rows or ledger; staging or claims that are left

    def words(self) -> list[str]:
        return [f"{kind}: {one}" for kind, all_of_it in vars(self).items() for one in all_of_it]


class Kills:
    """Work on a site, disturbed."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.rng = random.Random(f"{seed} work")
        self.wanted: dict[str, list[str]] = {}  # request id -> batch ids
        self.runs: list[str] = []
        self._active: list[str] = []  # those that were not over when last asked for
        self.hits: Counter[str] = Counter()
        # What a server that is killed has said that it kept, it keeps.
        site.sql("ALTER ROLE CURRENT_USER SET synchronous_commit = on")
        site.redis().save()
        self.expected = self._undisturbed()
        with autocommitted(site) as cursor:
            record_history(cursor)

    def _undisturbed(self) -> dict[str, str]:
        """Return the sha256 of each batch's file, from an undisturbed run."""
        request = self.site.request(*self.site.batches)
        self.site.airflow.run(request_ids=[request])
        made = self.site.published(request)
        return {batch: made[self.site.key(request, batch)] for batch in self.site.batches}

    # Work

    def keep_busy(self) -> None:
        """Start runs until several are running."""
        for _ in range(RUNS_AT_A_TIME - len(self.running_runs())):
            ids = []
            for _ in range(REQUESTS_A_RUN):
                batches = self.rng.sample(self.site.batches, self.rng.randint(1, 3))
                ids.append(self.site.request(*batches))
                self.wanted[ids[-1]] = batches
            # Half of the runs take whatever is pending, as a night does: what other runs gave up, too.
            conf: dict[str, Any] = {"request_ids": ids} if self.rng.random() < 0.5 else {}
            self._start_run(**conf)

    def _start_run(self, **conf: Any) -> None:
        self.runs.append(patiently(lambda: self.site.airflow.start_run(**conf)))
        self._active.append(self.runs[-1])

    def running_runs(self) -> list[str]:
        """Return the runs that are not over."""
        self._active = [run for run in self._active if patiently(lambda run=run: self.site.airflow.state(run)) not in OVER]
        return self._active

    # Kills

    def hit(self, moment: Moment) -> str | None:
        """Kill what the moment names, and start again what does not start by itself; return what was hit, if anything was."""
        time.sleep(moment.delay_seconds)
        if moment.kind in TASK_KINDS:
            name = self._hit_task(moment)
        else:
            name = moment.kind
            self._hit_server(moment.kind)
        if name:
            self.hits[name] += 1
        return name

    def _hit_task(self, moment: Moment) -> str | None:
        """Kill a process of a task; None if no run is running any more."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            tasks = task_processes(self.site)
            # Few stages have processes of their own, and not for long.
            found = tasks[moment.kind] or (tasks["task"] if time.monotonic() > deadline - PATIENCE_SECONDS + 20 else {})
            stages = self._stages() if found else {}
            found = {pid: task for pid, task in found.items() if task in stages}
            if found:
                pid = sorted(found)[int(moment.choice * len(found))]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return f"{stages[found[pid]]}: {moment.kind}"
            self._start_airflow()
            self.keep_busy()
            if not self.running_runs():
                return None
            time.sleep(0.05)
        raise AssertionError("no task was running")

    def _stages(self) -> dict[str, str]:
        """Return the task ids of all task instances, by their ids."""
        return {
            task.id: task.task_id
            for run in self.running_runs()
            for task in patiently(lambda run=run: self.site.airflow.tasks(run)).values()
        }

    def _hit_server(self, kind: str) -> None:
        if kind in SERVICE_KINDS:
            pid = self.site.pid(kind)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: ended(pid), f"the end of the {kind}")
            # Postgres's own processes see its end a moment later, and a new one waits for none of them.
            patiently(lambda: self.site.command("dev/services.py", "start"))
        else:
            pid = self.site.pid(f"airflow-{kind.partition(' ')[0]}")
            if kind == "scheduler and workers":
                os.killpg(os.getpgid(pid), signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: ended(pid), f"the end of the {kind}")
            if kind.startswith("scheduler"):
                # Until Airflow itself sees it, a new scheduler leaves the old one's tasks alone.
                wait_until(lambda: not self._scheduler_lives(), "Airflow to miss its scheduler")
        self._start_airflow()

    def _start_airflow(self) -> None:
        """Start what is down, as whatever looks after a site's servers does: one may end by itself a while after its database."""
        if any(ended(self.site.pid(f"airflow-{server}")) for server in SERVERS):
            patiently(lambda: self.site.command("dev/airflow_servers.py", "start"))

    def _scheduler_lives(self) -> bool:
        health = patiently(lambda: self.site.airflow.call("/api/v2/monitor/health"))
        return bool(health["scheduler"]["status"] == "healthy")

    # Recovery

    def recover(self) -> None:
        """Do what the runbook says, until each request is done or nothing more comes of it."""
        for _ in range(NIGHTS_OF_RECOVERY):
            self._wait_for_runs()
            if not self.undone():
                return
            for run in self.runs:
                if self.undone() and self.site.airflow.state(run) == "failed":
                    self.site.airflow.clear(run, only_failed=True)
                    self._active.append(run)
                    self._wait_for_runs()
            if self.undone():
                self._start_run()

    def _wait_for_runs(self) -> None:
        def over() -> bool:
            self._start_airflow()
            return not self.running_runs()

        wait_until(over, "the end of all runs", PATIENCE_SECONDS)

    def undone(self) -> list[str]:
        return [request for request in self.wanted if self.site.row(request)["status"] != "SUCCESS"]

    # The count

    def check(self) -> Found:
        """Hold everything against a quiet night."""
        found = Found()
        for request, batches in self.wanted.items():
            self._check_request(request, {self.site.key(request, batch): batch for batch in batches}, found)
        found.wrong += [f"staging is left: {path}" for run in self.runs for path in self.site.staging(run)]
        for what, statement in STUCK.items():
            found.wrong += [f"{what}: {dict(row)}" for row in self.site.sql(statement, list(self.wanted))]
        with autocommitted(self.site) as cursor:
            found.wrong += [f"history: {problem}" for problem in check_history(read_history(cursor))]
            stop_recording(cursor)
        return found

    def _check_request(self, request: str, keys: Mapping[str, str], found: Found) -> None:
        row, made = self.site.row(request), self.site.published(request)
        if row["status"] != "SUCCESS":
            found.lost.append(f"{request} is {row['status']} after {row['iteration']} failures: {row['err_message']}")
            return
        urls = row["download_urls"] or []
        found.lost += [f"{key} is not there" for key in keys if key not in made]
        found.lost += [f"{request} does not name {key}" for key in keys if key not in urls]
        found.double += [f"{key} is one too many" for key in made if key not in keys]
        found.double += [f"{request} names {key} {urls.count(key)} times" for key in set(urls) if urls.count(key) > 1]
        found.wrong += [
            f"{key} has other bytes" for key, batch in keys.items() if made.get(key, "") not in ("", self.expected[batch])
        ]
        found.wrong += [f"{request} names {key}" for key in urls if key not in keys]
        if row["err_message"] is not None:
            found.wrong.append(f"{request} is SUCCESS and says {row['err_message']}")
        claims = self.site.sql("SELECT run_id FROM progress_exhaust.claim WHERE request_id = %s AND outcome = 'SUCCESS'", request)
        if len(claims) != 1:
            found.double.append(f"{request} was made by {len(claims)} runs")
        sizes = {entry["filePath"]: entry["fileSize"] for entry in row["processed_batches"]}
        files = {key: self.site.object(key).stat().st_size for key in made}
        if sizes != files:
            found.wrong.append(f"{request} has the sizes {sizes}, and its files {files}")


# Each with the ids of the requests.
STUCK = {
    "PROCESSING without a claim": """
        SELECT request_id FROM job_request j
        WHERE status = 'PROCESSING' AND request_id = ANY(%s) AND NOT EXISTS (
          SELECT FROM progress_exhaust.claim c WHERE c.request_id = j.request_id AND released_at IS NULL)""",
    "a claim that was not released": """
        SELECT request_id, run_id FROM progress_exhaust.claim WHERE released_at IS NULL AND request_id = ANY(%s)""",
    "done in the row, not in the ledger": """
        SELECT request_id, b.batch_id, run_id, b.stage, b.state
        FROM progress_exhaust.batch_run b JOIN progress_exhaust.claim c USING (tag, request_id, run_id)
        WHERE c.outcome = 'SUCCESS' AND request_id = ANY(%s)
          AND (b.state <> 'done' OR b.stage <> 'mark_complete' OR b.error IS NOT NULL)""",
}


@contextmanager
def autocommitted(site: Site) -> Iterator[Any]:
    """Yield a cursor on the database of the requests that commits each statement."""
    with closing(psycopg2.connect(site.places.requests)) as connection:
        connection.autocommit = True
        yield connection.cursor()


def task_processes(site: Site) -> dict[str, dict[int, str]]:
    """Return the ids of the running tasks, by kind of process and pid."""
    words_of = {pid: words for pid, words in processes() if words.startswith("airflow worker -- ") and works_in(pid, site.data)}
    found: dict[str, dict[int, str]] = {kind: {} for kind in TASK_KINDS}
    for pid, words in words_of.items():
        task, above = words.rpartition(" ")[2], parent(pid)
        if "LocalExecutor" in words:
            continue
        if words_of.get(above) == words:
            found["process of a task"][pid] = task
        else:
            found["task"][pid] = task
            if above in words_of:
                found["worker"][above] = task
    return found


def ended(pid: int) -> bool:
    """Tell whether a process has ended, and its memory is free, as dev/servers.py checks before it starts another."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def patiently(ask: Callable[[], Answer], seconds: float = 120) -> Answer:
    """Ask again while the server that answers, or the one behind it, is being started again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (AssertionError, requests.RequestException):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def disturb(site: Site, planned: list[Moment], seed: int) -> Kills:
    """Kill at these moments, and recover; says how far it is."""
    started = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {words}", flush=True)

    kills = Kills(site, seed)
    say("the quiet night has ended")
    for number, moment in enumerate(planned, start=1):
        kills.keep_busy()
        say(f"{number} of {len(planned)}: {kills.hit(moment)}")
    say(f"recovery: {len(kills.running_runs())} of {len(kills.runs)} runs are running")
    kills.recover()
    say("checking")
    return kills


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Kill at random moments, recover, and count what is not right.")
    parser.add_argument("kills", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args(given)
    print(f"{arguments.kills} kills, seed {arguments.seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="progress-exhaust-kills-") as folder, started_site(Path(folder)) as site:
        kills = disturb(site, moments(arguments.kills, arguments.seed), arguments.seed)
        found = kills.check()
        made = sum(len(batches) for batches in kills.wanted.values())
    for name, number in sorted(kills.hits.items()):
        print(f"{number:5}  {name}")
    print("\n".join(found.words()))
    print(f"\n{len(kills.runs)} runs, {len(kills.wanted)} requests, {made} files\n")
    print("| kills | lost | double | wrong | seconds | seed |\n|---|---|---|---|---|---|")
    print(
        f"| {kills.hits.total()} | {len(found.lost)} | {len(found.double)} | {len(found.wrong)} "
        f"| {time.monotonic() - started:.0f} | {arguments.seed} |"
    )
    return 1 if found.words() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
