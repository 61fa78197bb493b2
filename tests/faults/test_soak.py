"""Hundreds of small requests over many runs, with a fault every few seconds: nothing grows and nothing leaks.

PROGRESS_EXHAUST_SOAK_REQUESTS says how many; 500 take some fifteen minutes on two idle cores. It prints what it measures, each
time while no run is running: after a tenth of the requests, after half of them, and at the end.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.meters import family, table
from benchmarks.meters import processes as process_table
from dev.servers import OFFSETS
from dev.world import user_id
from tests.faults.kills import SERVERS, Kills, Moment, moments, task_processes
from tests.servers.site import Site, wait_until

REQUESTS = int(os.environ.get("PROGRESS_EXHAUST_SOAK_REQUESTS", "500"))
SEED = 3
PAIRS_A_RUN = 10
SERVICES = ("cassandra", "postgres", "redis", "content")
KINDS = {"task": 4, "process of a task": 2, "drop postgres": 2, "drop redis": 2} | {f"pause {name}": 1 for name in SERVICES}
SECONDS_BETWEEN_FAULTS = 3  # in addition to those of the moments

MOST_GROWTH = 0.15  # of a server's memory, from after the warm-up to the end
POOL = 10  # connections that Airflow's servers may keep open, and did not need before
SECONDS_OF_A_PARSE = 10  # of a DAG file, at most: the dag-processor has a process for each
WORKERS = 8  # of the executor, at most: they stay


class Soak(Kills):
    """Small requests in pairs, the second of each asking for the same as the first; milder faults than kills of servers."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, SEED)
        self.to_submit = 0  # pairs
        self.duplicates: dict[str, str] = {}  # request id -> the one whose files it gets

    def keep_busy(self) -> None:
        while self.to_submit and len(self.running_runs()) < 3:
            pairs = min(PAIRS_A_RUN, self.to_submit)
            self.to_submit -= pairs
            firsts = []
            for _ in range(pairs):
                batches, by = [self.rng.choice(self.site.batches[1:])], user_id(self.rng.randbytes(16))
                first, twin = (self.site.request(*batches, by=by) for _ in range(2))
                firsts.append(first)
                self.wanted[first], self.duplicates[twin] = batches, first
            ids = [*firsts, *(twin for twin, first in self.duplicates.items() if first in firsts)]
            self._start_run(request_ids=ids)

    def hit(self, moment: Moment) -> str | None:
        what, _, name = moment.kind.partition(" ")
        if what not in ("pause", "drop"):
            return super().hit(moment)
        time.sleep(moment.delay_seconds)
        if what == "pause":
            with self.site.paused(name):
                time.sleep(1)
        elif name == "postgres":
            self.site.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        else:
            self.site.redis().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.hits[moment.kind] += 1
        return moment.kind

    def make(self, requests: int, faults: Iterator[Moment]) -> None:
        """Submit so many requests, disturb them, and wait until all is done."""
        self.to_submit += requests // 2
        self.keep_busy()
        while self.to_submit or self.running_runs():
            time.sleep(SECONDS_BETWEEN_FAULTS)
            self.keep_busy()
            if self.running_runs():
                self.hit(next(faults))
        self.recover()


@dataclass(frozen=True)
class Measured:
    """What there is while no run is running."""

    memory_mb: dict[str, float]  # resident, by server
    files: dict[str, int]  # open, by server
    processes: dict[str, int]  # by server, the executor's workers apart
    connections: dict[str, int]  # by service, as it counts them; Airflow's own database apart
    sockets: int  # established to any of the services

    def row(self, when: str) -> dict[str, str]:
        groups = {"MB": self.memory_mb, "files": self.files, "processes": self.processes, "connections": self.connections}
        cells = {f"{name}, {unit}": f"{number:.0f}" for unit, group in groups.items() for name, number in group.items()}
        return {"when": when, **cells, "sockets": str(self.sockets)}


def measured(site: Site) -> Measured:
    """Measure, and again where one of the processes ended meanwhile."""
    while True:
        with suppress(FileNotFoundError, ProcessLookupError):
            return measured_once(site)


def measured_once(site: Site) -> Measured:
    there = process_table()
    time.sleep(SECONDS_OF_A_PARSE)
    there = {pid: process for pid, process in process_table().items() if pid in there}  # without what comes and goes
    memory, files, count = {}, {}, Counter[str]()
    for server in SERVERS:
        pids = family(site.pid(f"airflow-{server}"), there)
        workers = {pid for pid in pids if words_of(pid).startswith("airflow worker")}
        count["workers"] += len(workers)
        own = [pid for pid in pids if pid not in workers]
        count[server] = len(own)
        memory[server] = sum(resident_mb(pid) for pid in own)
        files[server] = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in own)
    return Measured(memory, files, dict(count), connections(site), established(site))


def words_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def resident_mb(pid: int) -> float:
    [line] = [line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Rss:")]
    return int(line.split()[1]) / 1024


def connections(site: Site) -> dict[str, int]:
    """Return how many clients each service has, without this one."""
    found = {
        f"postgres {row['datname']}": int(row["count"])
        for row in site.sql(
            "SELECT d.datname, count(a.pid) FROM pg_database d LEFT JOIN pg_stat_activity a"
            " ON a.datname = d.datname AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()"
            " WHERE d.datname IN ('airflow', 'sunbird') GROUP BY 1"
        )
    }
    found["redis"] = len(site.redis().client_list()) - 1
    session = site.places.connect_cassandra()
    try:
        rows = list(session.execute("SELECT port FROM system_views.clients"))
        found["cassandra"] = len(rows) - len(own_ports() & {row.port for row in rows})
    finally:
        session.cluster.shutdown()
    return found


def own_ports() -> set[int]:
    """Return the local ports of this process's own sockets."""
    inodes = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return {local for local, _, _, inode in sockets() if f"socket:[{inode}]" in inodes}


def sockets() -> Iterator[tuple[int, int, str, str]]:
    """Yield local port, remote port, state and inode of each TCP socket."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        yield int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16), state, inode


def established(site: Site) -> int:
    """Return how many sockets are established to the services, without those of this process."""
    base, own = int((site.data / "port-base").read_text()), own_ports()
    ports = {base + OFFSETS[name] for name in SERVICES}
    return sum(remote in ports and state == "01" and local not in own for local, remote, state, _ in sockets())


@pytest.mark.slow
def test_nothing_grows_and_nothing_leaks(site: Site) -> None:
    started = time.monotonic()
    soak, faults = Soak(site), iter(moments(100_000, SEED, KINDS))
    shown = []
    for when, share in {"warm": 0.1, "half way": 0.4, "end": 0.5}.items():
        soak.make(round(REQUESTS * share), faults)
        # The last tasks' processes end a moment after their runs.
        wait_until(lambda: not task_processes(site)["task"], "the last task's end")
        shown.append((when, measured(site)))
        print(
            f"{time.monotonic() - started:.0f} s: {when}: {len(soak.wanted) + len(soak.duplicates)} requests, {shown[-1][1]}",
            flush=True,
        )
    print(f"\n{len(soak.runs)} runs, {soak.hits.total()} faults: {dict(soak.hits)}\n")
    print(table([one.row(when) for when, one in shown]), flush=True)

    assert soak.check().words() == []
    for twin, first in soak.duplicates.items():
        assert (site.row(twin)["status"], site.row(twin)["download_urls"]) == ("SUCCESS", site.row(first)["download_urls"])
        assert site.published(twin) == {}
    (_, warm), _, (_, end) = shown
    for server in SERVERS:
        assert end.memory_mb[server] <= warm.memory_mb[server] * (1 + MOST_GROWTH), server
        assert end.files[server] <= warm.files[server] + POOL, server
        assert end.processes[server] == warm.processes[server], server
    assert end.processes["workers"] <= WORKERS
    assert end.connections["postgres airflow"] <= warm.connections["postgres airflow"] + POOL
    assert {name: end.connections[name] for name in ("postgres sunbird", "redis", "cassandra")} == {
        "postgres sunbird": 0, "redis": 0, "cassandra": 0,
    }  # fmt: skip
    assert end.sockets <= warm.sockets + POOL
