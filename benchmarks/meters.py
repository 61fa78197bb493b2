"""Reading CPU-seconds and memory of processes, and what machine and versions they were read on."""

import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Process:
    """One line of the process table."""

    parent: int
    name: str
    cpu_seconds: float  # its own, and that of its children that ended
    memory_bytes: int  # resident


def processes() -> dict[int, Process]:
    """Return all processes by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat.rpartition(")")[2].split()
            ticks, pages = sum(map(int, fields[11:15])), int(fields[21])
            found[int(entry.name)] = Process(int(fields[1]), name, ticks / TICKS_PER_SECOND, pages * PAGE_BYTES)
    return found


def family(pid: int, table: Mapping[int, Process]) -> list[int]:
    """Return a process and all that descend from it; none if it is not in the table."""
    children = defaultdict(list)
    for child, process in table.items():
        children[process.parent].append(child)
    found, waiting = [], [pid] if pid in table else []
    while waiting:
        found.append(waiting.pop())
        waiting.extend(children[found[-1]])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return what these processes and their descendants have used up to now."""
    table = processes()
    return sum(table[one].cpu_seconds for pid in pids for one in family(pid, table))


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes and their descendants. What several processes share counts once (PSS)."""
    table, total = processes(), 0
    for one in {one for pid in pids for one in family(pid, table)}:
        with suppress(OSError):  # it has ended
            fields = (Path("/proc") / str(one) / "smaps_rollup").read_text().split()
            total += int(fields[fields.index("Pss:") + 1]) * 1024
    return total


@contextmanager
def sampled(ask: Callable[[], int], every_seconds: float) -> Iterator[list[int]]:
    """Ask again and again during the block; give the answers."""
    answers, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(every_seconds):
            answers.append(ask())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield answers
    finally:
        done.set()
        watcher.join()


@dataclass(frozen=True)
class Measured:
    """What a command came to."""

    exit_status: int
    output: str
    cpu_seconds: float  # with all its processes
    peak_bytes: int  # of the largest of its processes


def measure(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Measured:
    """Run a command to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = subprocess.Popen(
        command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip

    def largest() -> int:
        table = processes()
        return max([0, *(table[one].memory_bytes for one in family(running.pid, table))])

    with sampled(largest, SAMPLE_SECONDS) as peaks:
        output, _ = running.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(running.returncode, output, used, max(peaks))


def machine() -> str:
    """Describe the machine and the versions, in one line."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    memory = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES / 2**30
    packages = ("apache-airflow", "cassandra-driver", "redis", "pyarrow", "isal")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {sys.version.split()[0]}, {versions}"
    )


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Write rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
