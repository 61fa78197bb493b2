"""A scan of enrolments that are keyed by user: its files are written, and each batch is sorted. Time, CPU, memory, files.

    python benchmarks/scans.py                                    5,000,000 learners of one batch, in a local folder
    python benchmarks/scans.py 500000 --store s3                  moto's S3 (with the Python of `make stores`)
    python benchmarks/scans.py 250000 --batches 250

The rows are generated, range by range in the order of the tokens, as they come from the driver. Processes and code are those of
a run. It excludes Cassandra, the driver and the making of chunks.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[:1] = [str(PROJECT), str(PROJECT / "plugins")]

import numpy as np
import pyarrow as pa

from benchmarks.meters import machine, measure, table
from dev import stores
from dev.world import user_id

LEARNERS_PER_RANGE = 5_000
CONTENTS = 40
STAGING = {"local": "file://{folder}/staging", "s3": "s3://staging"}


# In a process of its own, as a task is


def scan_and_sort(learners: int, batches: int, staging_url: str) -> None:
    """Write the files of a scan, and sort each batch; print what it took as JSON."""
    from airflow.providers.apache.cassandra.hooks.cassandra import CassandraHook  # noqa: F401 - a task has it in memory

    from progress_exhaust.extract.scan_files import BatchRows, write_scan_files
    from progress_exhaust.extract.sorted_enrolments import sort_enrolments
    from progress_exhaust.hooks.report_store import ReportStoreHook, make_folder
    from progress_exhaust.stages.process_pool import run_in_processes

    hook = ReportStoreHook(container_url=staging_url, staging_url=staging_url)
    folder = hook.scans_folder("run", "enrolments")
    make_folder(folder)
    if folder.protocol == "s3":
        folder.fs.call_s3("create_bucket", Bucket="staging", CreateBucketConfiguration={"LocationConstraint": stores.S3_REGION})
    wall, cpu = time.monotonic(), _cpu_seconds()
    found = run_in_processes(
        _rows_of_range,
        range(-(-learners // LEARNERS_PER_RANGE)),
        open_resources=partial(_open_generator, learners, batches),
        processes=len(os.sched_getaffinity(0)),
    )
    with closing(found):
        files, sizes = write_scan_files(found, folder, batches)
    written = time.monotonic() - wall, _cpu_seconds() - cpu
    wall, cpu = time.monotonic(), _cpu_seconds()
    rows = 0
    for number, size in enumerate(sizes):
        last = ""
        with ExitStack() as stack:
            for enrolment in sort_enrolments(BatchRows(folder, files, number, size), stack):
                if enrolment.user_id < last:
                    sys.exit("the enrolments are not in the order of their user ids")
                last, rows = enrolment.user_id, rows + 1
    if rows != learners:
        sys.exit(f"{rows} of {learners} enrolments came back")
    took = time.monotonic() - wall, _cpu_seconds() - cpu
    stored = folder.fs.find(folder.path, detail=True).values()
    megabytes = [sum(size.bytes for size in sizes) / 1e6, sum(file["size"] for file in stored) / 1e6]
    print(json.dumps({"written": written, "sorted": took, "files": len(stored), "megabytes": megabytes}))


def _cpu_seconds() -> float:
    """Return the CPU-seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _open_generator(learners: int, batches: int) -> AbstractContextManager[tuple[int, int, pa.Array]]:
    leaves = [f"do_2100000000000{number:08}" for number in range(CONTENTS)]
    return nullcontext((learners, batches, pa.array([_statuses(leaves, done) for done in range(CONTENTS + 1)], pa.binary())))


def _statuses(leaves: list[str], done: int) -> bytes:
    """Return the bytes of a map of statuses as Cassandra sends it."""
    found = dict.fromkeys(leaves[:done], 2) | dict.fromkeys(leaves[done : done + 2], 1)
    pairs = ((len(leaf).to_bytes(4), leaf.encode(), (4).to_bytes(4), status.to_bytes(4)) for leaf, status in found.items())
    return len(found).to_bytes(4) + b"".join(part for pair in pairs for part in pair)


def _rows_of_range(generator: tuple[int, int, pa.Array], number: int) -> pa.Table:
    """Return the enrolments of one range of the ring: the user ids in the order of their hashes are random."""
    from progress_exhaust.extract.scan_files import number_rows
    from progress_exhaust.extract.schemas import ENROLMENT

    learners, batches, statuses = generator
    rows = min(LEARNERS_PER_RANGE, learners - number * LEARNERS_PER_RANGE)
    random = np.random.default_rng(number)
    done = np.where(random.random(rows) < 0.35, CONTENTS, random.integers(0, CONTENTS + 1, rows))
    times = 1_600_000_000_000 + random.integers(0, 10**10, (2, rows))
    columns = [
        pa.array([user_id(random.bytes(16)) for _ in range(rows)]),
        pa.array(random.random(rows) < 0.96),
        pa.array(times[0]),
        pa.nulls(rows, pa.string()),
        pa.array(times[1], mask=done < CONTENTS),
        statuses.take(pa.array(done)),
        *(pa.nulls(rows, field.type) for field in list(ENROLMENT)[6:]),
    ]
    enrolments, of_batch = pa.table(columns, schema=ENROLMENT), random.integers(0, batches, rows)
    keys = [("do_1", str(batch)) for batch in range(batches)]
    found = ((key, enrolments.filter(pa.array(of_batch == batch))) for batch, key in enumerate(keys))
    return number_rows(found, keys, ENROLMENT)


# The measurement


def run(learners: int, batches: int, store: str) -> dict[str, str]:
    """Measure one scan; return what it came to."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="progress-exhaust-bench-")))
        environment = os.environ | {
            "MALLOC_ARENA_MAX": "1",
            "TMPDIR": str(folder),
            "AIRFLOW_CONN_PROGRESS_EXHAUST_STORE": "file://",
        }
        environment["AIRFLOW_HOME"] = str(folder / "airflow")
        if store == "s3":
            environment["AIRFLOW_CONN_PROGRESS_EXHAUST_STORE"] = stack.enter_context(stores.s3(folder)).connection()
        url = STAGING[store].format(folder=folder)
        done = measure(
            [sys.executable, __file__, str(learners), "--batches", str(batches), "--inside", url], environment, PROJECT
        )
    if done.exit_status:
        sys.exit(done.output)
    found = json.loads(done.output.splitlines()[-1])
    return {
        "learners": f"{learners:,}",
        "batches": f"{batches:,}",
        "store": store,
        "written: wall s, CPU-s": "{:.1f}, {:.1f}".format(*found["written"]),
        "sorted: wall s, CPU-s": "{:.1f}, {:.1f}".format(*found["sorted"]),
        "peak MB": f"{done.peak_bytes / 1e6:.0f}",
        "files": f"{found['files']:,}",
        "MB in memory, MB of files": "{:,.0f}, {:,.0f}".format(*found["megabytes"]),
    }


def main(given: list[str]) -> int:
    """Run the benchmark; print its table."""
    parser = argparse.ArgumentParser(description="Time the files of a scan of enrolments that are keyed by user.")
    parser.add_argument("sizes", type=int, nargs="*", default=[5_000_000], help="learners of all batches")
    parser.add_argument("--batches", type=int, default=1, help="that they are enrolled in")
    parser.add_argument("--store", choices=STAGING, default="local", help="of staging")
    parser.add_argument("--inside", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.inside:
        scan_and_sort(arguments.sizes[0], arguments.batches, arguments.inside)
        return 0
    rows = [run(learners, arguments.batches, arguments.store) for learners in arguments.sizes]
    print(f"{machine()}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
