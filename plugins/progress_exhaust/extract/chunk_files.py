"""The Parquet file of a chunk: the table, and its counts in the file's metadata.

Each function that reads raises SetupError if the file is damaged, or if another program has written it: an error of Arrow may
quote data of a learner.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from progress_exhaust.errors import SetupError
from progress_exhaust.extract.paths import AnyPath
from progress_exhaust.extract.schemas import COUNTS, ENROLLED, FACTS_OF_ATTEMPTS, NESTED_PROGRESS
from progress_exhaust.report.exact import maximum_scores

LISTS = {"nested": NESTED_PROGRESS, "attempts": FACTS_OF_ATTEMPTS}  # columns of a facts chunk, and the rows of a learner


def to_parquet(table: pa.Table, counts: Mapping[str, int]) -> bytes:
    """Return a chunk as a Parquet file that has its counts."""
    target = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({COUNTS: json.dumps(counts)}), target)
    return target.getvalue()


def from_parquet(file: bytes) -> pa.Table:
    """Return the table of a chunk's file."""
    with _checked():
        try:
            table = pq.read_table(pa.BufferReader(file))
        except OSError:  # no store is asked: it is how Arrow reports damaged pages
            raise ValueError from None
        for column in table.schema:
            if not _is_ours(column):
                raise TypeError(column.name)
        if missing := set(ENROLLED.names) - set(table.column_names):
            raise KeyError(*missing)
        return table


def read_counts(path: AnyPath) -> Counter[str]:
    """Return the counts of a chunk's file; read only its metadata."""
    with _checked(), path.open("rb") as source:
        counts = json.loads(pq.read_schema(source).metadata[COUNTS])
        return Counter({name: int(count) for name, count in counts.items()})


def _is_ours(column: pa.Field) -> bool:
    if column.name in LISTS:
        rows = [field for field in LISTS[column.name] if field.name != "user_id"]
        return pa.types.is_list(column.type) and bool(column.type.value_type == pa.struct(rows))
    return bool(column.type == (pa.string() if column.name.startswith("user.") else ENROLLED.field(column.name).type))


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, OSError):  # of the store
            raise
        raise SetupError(
            f"A Parquet file of this batch in staging is damaged, or another program has written it ({type(error).__name__}). "
            "Clear the stage extract of the batch"
        ) from None


def attempted_contents(facts_chunks: Iterable[AnyPath]) -> frozenset[str]:
    """Return the ids of all contents that a learner of these chunks attempted; read only this column."""
    found: set[str] = set()
    for path in facts_chunks:
        with _checked(), path.open("rb") as source:
            attempts = pq.ParquetFile(source).read(["attempts.list.element.content_id"])["attempts"]
            found.update(pc.unique(pc.struct_field(pc.list_flatten(attempts), 0)).to_pylist())
    return frozenset(found)


def max_scores(facts_chunks: Iterable[AnyPath]) -> dict[str, Decimal]:
    """Return the greatest maximum score above 0 of the attempts at each content, if it has one; read only these columns."""
    fields = ("content_id", "total_max_score", "grand_total")
    found: dict[str, Decimal] = {}
    for path in facts_chunks:
        with _checked(), path.open("rb") as source:
            attempts = pq.ParquetFile(source).read([f"attempts.list.element.{field}" for field in fields])["attempts"]
            contents, maxima, totals = (pc.struct_field(pc.list_flatten(attempts), field) for field in fields)
            positive = pc.if_else(pc.greater(maxima, 0), maxima, pa.scalar(None, pa.float64()))
            known = pa.table({"content": contents, "maximum": maximum_scores(positive, totals)}).drop_null()
        for pair in known.group_by(["content", "maximum"]).aggregate([]).to_pylist():
            maximum = Decimal(pair["maximum"])
            if maximum > 0:
                found[pair["content"]] = max(maximum, found.get(pair["content"], maximum))
    return found
