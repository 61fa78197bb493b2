"""What it costs to compare two files: `python benchmarks/compare.py --rows 1000000`.

Writes the report of the same learners in the layout of the Spark job and in layout `standard`, both in a zip with a password,
then runs `compare` on them, and on two files of layout `standard`. Prints seconds, CPU-seconds and the largest memory.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(PROJECT / "plugins"), str(PROJECT)]

from benchmarks.meters import machine, measure, table
from benchmarks.pivot import part
from progress_exhaust.report.csv_file import chunk_csv, write_csv
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.report.options import ChosenAttempt, ColumnLabels
from progress_exhaust.report.package import Packed, write_package
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts
from progress_exhaust.security.levels import Level, Protection, ZipCipher

ROWS_PER_CHUNK = 5000
PASSWORD = "benchmark"  # noqa: S105
DAY = date(2022, 9, 27)


def write_report(folder: Path, name: str, rows: int, layout: str, cipher: ZipCipher) -> Path:
    """Write the same learners in a layout. Return the zip."""
    nested = [ColumnNode("nested", f"do_2190689171448{number:06}", f"Unit {number}", 20) for number in range(10)]
    assessments = [ColumnNode("assessment", f"do_2121589132151{number:06}", f"Quiz {number}") for number in range(10)]
    tree = Hierarchy("do_2166005695180054389645", 40, (*nested, *assessments), frozenset(), content_ids=frozenset())
    batch = Batch("tag", "R1", "org", "013300978801321105614", tree.collection_id)
    rules = CellRules(ChosenAttempt.BEST, (2,), ColumnLabels.ID, True, "Asia/Kolkata")
    facts = BatchFacts("Batch 1", "Literacy", owned=True)
    report = Report(batch, facts, tree, BUILT_IN[layout], rules, frozenset(tree.assessment_ids))
    fields = list(dict.fromkeys(field for one in BUILT_IN.values() for field in one.user_fields))
    random = np.random.default_rng(7)

    def chunks() -> Iterator[bytes]:
        for first in range(0, rows, ROWS_PER_CHUNK):
            yield chunk_csv(part(min(ROWS_PER_CHUNK, rows - first), first, tree, fields, random), report)

    csv_file, package = folder / f"{name}.csv", folder / f"{name}.zip"
    with csv_file.open("w+b") as csv:
        size_bytes = write_csv(csv, report, chunks(), bom=False).size_bytes
        csv.seek(0)
        protection = Protection(Level.PASSWORD, PASSWORD)
        write_package([Packed(f"{name}.csv", csv, size_bytes)], package, DAY, protection, zip_cipher=cipher)
    csv_file.unlink()
    print(f"{name}: {size_bytes:,} bytes of csv, {package.stat().st_size:,} of zip", flush=True)
    return package


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    rows = arguments.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spark = write_report(folder, "spark", rows, "sunbird-lern-7", ZipCipher.ZIP_CRYPTO)
        ours = write_report(folder, "ours", rows, "standard", ZipCipher.AES_256)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PROJECT / "plugins"), os.environ.get("PYTHONPATH", "")]),
            "PROGRESS_EXHAUST_OLD_KEY": PASSWORD,
            "PROGRESS_EXHAUST_NEW_KEY": PASSWORD,
        }
        results = []
        cases = {"layout of the Spark job in ZipCrypto, standard in AES": spark, "standard in AES twice": ours}
        for label, old in cases.items():
            start = time.perf_counter()
            command = [sys.executable, "-m", "progress_exhaust.cli", "compare", str(old), str(ours)]
            done = measure(command, environment, folder)
            seconds = time.perf_counter() - start
            print(done.output)
            results.append(
                {
                    "files": label,
                    "rows": f"{rows:,}",
                    "seconds": f"{seconds:.0f}",
                    "CPU-seconds": f"{done.cpu_seconds:.0f}",
                    "memory": f"{done.peak_bytes / 1e6:.0f} MB",
                    "exit status": str(done.exit_status),
                }
            )
        print(machine(), table(results), sep="\n")


if __name__ == "__main__":
    main()
