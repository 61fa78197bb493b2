"""A worker counts what its cgroup allows, in both versions of the format."""

from pathlib import Path

import pytest

from progress_exhaust.settings import Settings
from progress_exhaust.stages import site_setup, worker_limits
from progress_exhaust.stages.site_setup import Site
from progress_exhaust.stages.worker_limits import count_processes

GIB = 2**30


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_limits.os, "sched_getaffinity", lambda _pid: set(range(8)))


def counted(folder: Path, own: str, files: dict[str, str]) -> int:
    """Return the count for a machine with these files of cgroups; `own` is what /proc/self/cgroup says."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        (folder / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup" / name).write_text(text)
    return count_processes(folder / "cgroup", folder / "own")


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"cpu.max": "200000 100000\n", "memory.max": f"{16 * GIB}\n"}, 2),
        ({"cpu.max": "150000 100000\n", "memory.max": "max\n"}, 2),  # one and a half
        ({"cpu.max": "10000 100000\n", "memory.max": "max\n"}, 1),
        ({"cpu.max": "max 100000\n", "memory.max": f"{2 * GIB}\n"}, 3),
        ({"cpu.max": "max 100000\n", "memory.max": f"{GIB // 4}\n"}, 1),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, 8),
        ({"cpu.max": "3200000 100000\n", "memory.max": "max\n"}, 8),  # more than the machine has
        ({}, 8),
        ({"cpu.max": "?", "memory.max": ""}, 8),
    ],
)
def test_version_2_in_a_container(tmp_path: Path, files: dict[str, str], count: int) -> None:
    assert counted(tmp_path, "0::/\n", files) == count


@pytest.mark.parametrize(
    ("quota", "memory", "count"),
    [("300000", str(16 * GIB), 3), ("-1", "9223372036854771712", 8), ("-1", str(3 * GIB), 5), ("50000", str(3 * GIB), 1)],
)
def test_version_1_in_a_container_that_has_the_paths_of_the_host(tmp_path: Path, quota: str, memory: str, count: int) -> None:
    own = "5:memory:/docker/0123abcd\n4:cpu,cpuacct:/docker/0123abcd\n1:name=systemd:/docker/0123abcd\n"
    files = {
        "cpu/cpu.cfs_quota_us": quota,
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": memory,
        "cpuset/cpu.cfs_quota_us": "100000",
    }
    assert counted(tmp_path, own, files) == count


def test_the_smallest_limit_of_a_service_and_of_the_groups_around_it(tmp_path: Path) -> None:
    files = {
        "system.slice/airflow-worker.service/cpu.max": "400000 100000",
        "system.slice/cpu.max": "300000 100000",
        "system.slice/airflow-worker.service/memory.max": "max",
        "other.slice/cpu.max": "100000 100000",
    }
    assert counted(tmp_path, "0::/system.slice/airflow-worker.service\n", files) == 3


def test_without_cgroups_the_machine_counts(tmp_path: Path) -> None:
    assert count_processes(tmp_path, tmp_path / "missing") == 8


def test_a_task_uses_as_many_processes_unless_the_site_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_setup, "count_processes", lambda: 3)
    assert Site(Settings(), "run").processes == 3
    assert Site(Settings(processes_per_task=5), "run").processes == 5
