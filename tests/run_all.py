"""Run every test but the unit tests, in two lanes at the same time. Each group of tests has its own servers and processes.

    python tests/run_all.py

Most tests wait for servers, so that the groups together need less time than one after the other. Each line of output starts with
the name of its group. The last lines are the closing lines of pytest, one per group, and their sum.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
STORES_PYTHON = PROJECT / ".venv-stores" / "bin" / "python"
# These share one site, that is Airflow's own servers: one process runs them.
SITE_TESTS = ("tests/servers", "tests/faults/test_random_kills.py", "tests/faults/test_two_of_everything.py")
CLOSING_LINE = re.compile(r"=+ (.*) in ([\d.]+)s\b.*=+")


@dataclass(frozen=True)
class Group:
    name: str
    python: str
    arguments: tuple[str, ...]

    def run(self) -> tuple[int, str]:
        """Run the group; return pytest's exit code and its closing line."""
        command = [self.python, "-m", "pytest", "-o", "console_output_style=count", *self.arguments]
        closing_line = "ended without a closing line"
        with subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1
        ) as process:
            assert process.stdout
            for line in process.stdout:
                print(f"{self.name:<9}| {line}", end="", flush=True)
                if CLOSING_LINE.match(line):
                    closing_line = line.strip()
        return process.returncode, closing_line


# Two lanes run at the same time. The groups of a lane run one after the other: more at once would only wait for the processors.
LANES = (
    (Group("site", sys.executable, SITE_TESTS), Group("stores", str(STORES_PYTHON), ("tests/stores",))),
    (
        Group(
            "services",
            sys.executable,
            (
                *("-n", "2", "--dist", "loadfile", "tests/integration", "tests/faults", "tests/drivers"),
                *(f"--ignore={path}" for path in SITE_TESTS),
            ),
        ),
    ),
)


def run_lane(lane: tuple[Group, ...]) -> list[tuple[int, str]]:
    """Run the groups of a lane; return their results."""
    return [group.run() for group in lane]


def total(closing_lines: list[str], seconds: float) -> str:
    """Return the sum of closing lines, in their own form."""
    counts: Counter[str] = Counter()
    for line in closing_lines:
        for count, outcome in re.findall(r"(\d+) (\w+)", line.partition(" in ")[0]):
            counts[outcome] += int(count)
    return "=" * 10 + f" {', '.join(f'{count} {outcome}' for outcome, count in counts.items())} in {seconds:.2f}s " + "=" * 10


def main() -> int:
    os.environ["PYTHONUNBUFFERED"] = "1"
    started = time.monotonic()
    with ThreadPoolExecutor(len(LANES)) as pool:
        results = [result for lane in pool.map(run_lane, LANES) for result in lane]
    for group, (code, closing_line) in zip((group for lane in LANES for group in lane), results, strict=True):
        print(f"{group.name:<9}| exit code {code}: {closing_line}")
    print(total([line for _, line in results], time.monotonic() - started))
    return int(any(code for code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
