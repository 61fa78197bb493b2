"""Run every test but the unit tests, group by group. The group with most tests uses two processes.

    python tests/run_all.py

Each line of output starts with the name of its group. The last lines are the tests that failed, the closing lines of pytest,
one per group, and their sum.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
STORES_PYTHON = PROJECT / ".venv-stores" / "bin" / "python"
# These share one site, that is Airflow's own servers: one process runs them.
SITE_TESTS = ("tests/servers", "tests/faults/test_random_kills.py", "tests/faults/test_two_of_everything.py")
SLOWEST = ("--durations=10", "--durations-min=10")  # each group lists its slowest tests
CLOSING_LINE = re.compile(r"=+ (.*) in ([\d.]+)s\b.*=+")
FAILED_TEST = re.compile(r"(FAILED|ERROR) \S")  # a line of pytest's short summary


@dataclass(frozen=True)
class Group:
    name: str
    python: str
    arguments: tuple[str, ...]

    def run(self) -> tuple[int, list[str]]:
        """Run the group; return pytest's exit code, and its lines about failed tests and the closing line."""
        command = [self.python, "-m", "pytest", "-o", "console_output_style=count", *SLOWEST, *self.arguments]
        failed_tests = []
        closing_line = "ended without a closing line"
        with subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1
        ) as process:
            assert process.stdout
            for line in process.stdout:
                print(f"{self.name:<9}| {line}", end="", flush=True)
                if FAILED_TEST.match(line):
                    failed_tests.append(line.strip())
                if CLOSING_LINE.match(line):
                    closing_line = line.strip()
        return process.returncode, [*failed_tests, closing_line]


# One after the other: the site's servers have time limits that a busy machine breaks.
GROUPS = (
    Group(
        "services",
        sys.executable,
        (
            *("-n", "2", "--dist", "loadfile", "tests/integration", "tests/faults", "tests/drivers"),
            *(f"--ignore={path}" for path in SITE_TESTS),
        ),
    ),
    Group("site", sys.executable, SITE_TESTS),
    Group("stores", str(STORES_PYTHON), ("tests/stores",)),
)


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
    results = [group.run() for group in GROUPS]
    for group, (code, lines) in zip(GROUPS, results, strict=True):
        for line in lines:
            print(f"{group.name:<9}| exit code {code}: {line}")
    print(total([lines[-1] for _, lines in results], time.monotonic() - started))
    return int(any(code for code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
