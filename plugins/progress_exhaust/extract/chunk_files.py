"""The Parquet file of a chunk: the table, and its counts in the file's metadata."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from progress_exhaust.extract.paths import AnyPath
from progress_exhaust.extract.schemas import COUNTS
from progress_exhaust.report.exact import maximum_scores


def to_parquet(table: pa.Table, counts: Mapping[str, int]) -> bytes:
    """Return a chunk as a Parquet file that has its counts."""
    target = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({COUNTS: json.dumps(counts)}), target)
    return target.getvalue()


def from_parquet(file: bytes) -> pa.Table:
    """Return the table of a chunk's file."""
    return pq.read_table(pa.BufferReader(file))


def read_counts(path: AnyPath) -> Counter[str]:
    """Return the counts of a chunk's file; read only its metadata."""
    with path.open("rb") as source:
        return Counter(json.loads(pq.read_schema(source).metadata[COUNTS]))


def attempted_contents(facts_chunks: Iterable[AnyPath]) -> frozenset[str]:
    """Return the ids of all contents that a learner of these chunks attempted; read only this column."""
    found: set[str] = set()
    for path in facts_chunks:
        with path.open("rb") as source:
            attempts = pq.ParquetFile(source).read(["attempts.list.element.content_id"])["attempts"]
        found.update(pc.unique(pc.struct_field(pc.list_flatten(attempts), 0)).to_pylist())
    return frozenset(found)


def max_scores(facts_chunks: Iterable[AnyPath]) -> dict[str, Decimal]:
    """Return the greatest maximum score above 0 of the attempts at each content, if it has one; read only these columns."""
    fields = ("content_id", "total_max_score", "grand_total")
    found: dict[str, Decimal] = {}
    for path in facts_chunks:
        with path.open("rb") as source:
            attempts = pq.ParquetFile(source).read([f"attempts.list.element.{field}" for field in fields])["attempts"]
        contents, maxima, totals = (pc.struct_field(pc.list_flatten(attempts), field) for field in fields)
        positive = pc.if_else(pc.greater(maxima, 0), maxima, pa.scalar(None, pa.float64()))
        known = pa.table({"content": contents, "maximum": maximum_scores(positive, totals)}).drop_null()
        for pair in known.group_by(["content", "maximum"]).aggregate([]).to_pylist():
            maximum = Decimal(pair["maximum"])
            if maximum > 0:
                found[pair["content"]] = max(maximum, found.get(pair["content"], maximum))
    return found
