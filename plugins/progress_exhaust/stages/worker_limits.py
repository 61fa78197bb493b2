"""What this worker may use: a container, a pod or a systemd service may have less than the machine.

Linux stores such limits in folders of cgroups, in version 1 or version 2 of their format. Python counts the machine.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
BYTES_PER_PROCESS = 600 * 2**20  # docs/how-to/size-your-installation.md


def count_processes(cgroups: Path = CGROUPS, own_cgroups: Path = OWN_CGROUPS) -> int:
    """Return how many processes of a task fit into the CPUs and the memory of this worker; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    for folder in _folders("cpu", cgroups, own_cgroups):
        # Microseconds of CPU per period, in two files of version 1 or in one of version 2.
        quota = _numbers(folder / "cpu.max") or _numbers(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] > 0:
            cpus = min(cpus, math.ceil(quota[0] / quota[1]))
    count = cpus
    for folder in _folders("memory", cgroups, own_cgroups):
        for limit in _numbers(folder / "memory.max") or _numbers(folder / "memory.limit_in_bytes"):
            count = min(count, limit // BYTES_PER_PROCESS)
    return max(1, count)


def _folders(controller: str, cgroups: Path, own_cgroups: Path) -> Iterator[Path]:
    """Yield the folder of each cgroup of this process and of the cgroups around it: each may have a limit.

    In a container, the path of the process is often that of the host, and the container's own cgroup is the top folder.
    """
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroups / controller if controllers else cgroups
        own = top / path.lstrip("/")
        yield own
        yield from (folder for folder in own.parents if folder.is_relative_to(top))


def _numbers(*files: Path) -> list[int]:
    """Return the numbers in the files; an empty list if a file is missing or says `max`: no limit."""
    try:
        return [int(word) for file in files for word in file.read_text().split()]
    except (OSError, ValueError):
        return []
