"""How fast parts become csv: `python benchmarks/pivot.py --rows 200000 --nested 10 --assessments 10`.

Makes parts like those of a big batch in memory, then turns each into csv, and prints CPU-seconds of one core. The parts are the
same at each call, so that the sha256 shows whether a change for speed changed a byte.
"""

import argparse
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path[:1] = [str(Path(__file__).resolve().parents[1] / "plugins")]

from progress_exhaust.report.columns import columns
from progress_exhaust.report.csv_file import chunk_csv, write_csv
from progress_exhaust.report.hierarchy import ColumnNode, Hierarchy
from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.report.options import ChosenAttempt, ColumnLabels
from progress_exhaust.report.report import CellRules, Report
from progress_exhaust.report.request import Batch, BatchFacts

FIRST_NAMES: list[str | None] = [
    *("Asha", "Ravi", "Harpreet", "Mathew", "முருகன்", "देवेंद्र", "Fátima", "O'Neil", 'Lakshmi "Lucky"', "S. K.", "=Ajay", " Priya "),
    *(
        f"{first}{last}"
        for first in ("An", "Bha", "Cha", "Dee", "Gee", "Ka", "Man", "Ra", "Su", "Vi")
        for last in ("ju", "vna", "nta")
    ),
]
LAST_NAMES: list[str | None] = [
    *("Rao", "Kaur", "Pallan", "செல்வம்", "देशपांडे", "Singh, Jr.", "D'Souza", "", "Das\t"),
    *(f"{first}{last}" for first in ("Iy", "Nai", "Red", "Shar", "Pat", "Gup") for last in ("er", "du", "dy", "ma", "il", "ta")),
]
USERS: dict[str, list[str | None]] = {
    "firstname": FIRST_NAMES,
    "lastname": LAST_NAMES,
    "state": ["Punjab", "Kerala", "தமிழ்நாடு", "Andaman & Nicobar Islands", "Dadra, Nagar Haveli and Daman", None],
    "district": [*(f"District {number}" for number in range(700)), "மதுரை", "S.A.S. Nagar", "Leh, Ladakh", None],
    "framework_board": ['["CBSE"]', "State (Kerala)", "[]", None],
}
NOW = 1_660_000_000_000  # milliseconds


def part(rows: int, first: int, tree: Hierarchy, fields: Sequence[str], random: np.random.Generator) -> pa.Table:
    """Return one part: a learner in 3 has completed, each has tried some of the assessments, one in five of them twice."""

    def some(values: list[str | None], size: int) -> pa.Array:
        return pa.array(values, pa.string()).take(pa.array(random.integers(0, len(values), size)))

    def lists(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]", items: dict[str, pa.Array]) -> pa.ListArray:
        offsets = pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(list(items.values()), list(items)))

    def per_learner(ids: list[str]) -> "tuple[np.ndarray[tuple[int], np.dtype[np.int64]], pa.Array]":
        grid = random.random((rows, len(ids))) < 0.6
        return grid.sum(axis=1), pa.array(ids, pa.string()).take(pa.array(np.nonzero(grid)[1]))

    enrolled = NOW - random.integers(0, 10**11, rows)
    in_text = random.random(rows) < 0.2
    nested_counts, nested_ids = per_learner(tree.nested_ids)
    attempt_counts, content_ids = per_learner([*tree.assessment_ids, *tree.assessment_ids[::5]])
    attempts = len(content_ids)
    scores = random.integers(0, 11, attempts) + random.choice([0, 0, 0, 0.5, 0.25, 1 / 3], attempts)
    return pa.table(
        {
            "user_id": [f"{first + row:08x}-0a1b-4c2d-8e3f-{first + row:012x}" for row in range(rows)],
            "enrolled_at": pa.array(enrolled, mask=in_text),
            "enrolled_text": pa.array(
                [f"2019-11-{1 + row % 28:02} 05:41:50:{row % 1000:03}+0000" for row in range(rows)], mask=~in_text
            ),
            "completed_at": pa.array(enrolled + 10**9, mask=random.random(rows) < 0.67),
            "completed_contents": pa.array(random.integers(0, tree.leaf_count, rows), pa.int32()),
            "has_certificate": random.random(rows) < 0.25,
            "certificate_status": pa.array(random.integers(0, 4, rows), pa.int32(), mask=random.random(rows) < 0.7),
            **{f"user.{field}": some(USERS.get(field, USERS["district"]), rows) for field in fields},
            "nested": lists(
                nested_counts, {"id": nested_ids, "completed": pa.array(random.integers(0, 20, len(nested_ids)) * 1.0)}
            ),
            "attempts": lists(
                attempt_counts,
                {
                    "content_id": content_ids,
                    "attempt_id": pa.array([f"{number:032x}" for number in random.permutation(attempts)]),
                    "total_score": pa.array(scores, mask=random.random(attempts) < 0.02),
                    "grand_total": pa.array([f"{score:g}/12" for score in scores]),
                    "attempted_at": pa.array(NOW - random.integers(0, 10**11, attempts)),
                    "total_max_score": pa.array(np.full(attempts, 12.0)),
                },
            ),
        }
    )  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--nested", type=int, default=10)
    arguments.add_argument("--assessments", type=int, default=10)
    arguments.add_argument("--learners-per-chunk", type=int, default=5000)
    arguments.add_argument("--layout", choices=list(BUILT_IN), default="standard")
    asked = arguments.parse_args()
    nested = [ColumnNode("nested", f"do_2190689171448{number:06}", f"Unit {number}", 20) for number in range(asked.nested)]
    assessments = [
        ColumnNode("assessment", f"do_2121589132151{number:06}", f"Quiz {number}") for number in range(asked.assessments)
    ]
    tree = Hierarchy("do_2166005695180054389645", 40, (*nested, *assessments), frozenset(), content_ids=frozenset())
    random = np.random.default_rng(7)
    parts = [
        part(min(asked.learners_per_chunk, asked.rows - first), first, tree, BUILT_IN[asked.layout].user_fields, random)
        for first in range(0, asked.rows, asked.learners_per_chunk)
    ]
    batch = Batch("tag", "R1", "org", "013300978801321105614", tree.collection_id)
    facts = BatchFacts("Batch 1", "Literacy, numeracy", owned=True)

    attempted = frozenset(tree.assessment_ids)
    report = Report(
        batch,
        facts,
        tree,
        BUILT_IN[asked.layout],
        CellRules(ChosenAttempt.BEST, (2,), ColumnLabels.ID, True, "Asia/Kolkata"),
        attempted,
    )
    target = io.BytesIO()
    wall, cpu = time.perf_counter(), time.process_time()
    written = write_csv(target, report, (chunk_csv(one, report) for one in parts), bom=False)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{written.rows:,} rows, {len(columns(report))} columns, {written.size_bytes:,} bytes, sha256 {written.sha256[:16]}")
    print(f"{cpu:.2f} CPU-seconds ({wall:.2f} s): {written.rows / cpu:,.0f} rows/s, {written.size_bytes / cpu / 1e6:.1f} MB/s")


if __name__ == "__main__":
    main()
