"""What reads bytes that come from outside: one function for each input, and a strategy that draws bytes for it.

A function may raise an error of this package, whose message has no data of a learner. Any other error is a fault.
"""

import io
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from dev.world import batch_world
from progress_exhaust.compare.comparison import compare_reports
from progress_exhaust.erase.search import LearnerSearch
from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.extract.archived_scores import as_attempts
from progress_exhaust.extract.chunk_files import attempted_contents, from_parquet, max_scores, read_counts, to_parquet
from progress_exhaust.extract.schemas import ARCHIVED_SCORES, ATTEMPTS, rows_to_table
from progress_exhaust.hooks.cassandra.decoding import decode_archived_scores, repair_text
from progress_exhaust.hooks.cassandra.raw_values import ContentKeys, count_completed, count_elements
from progress_exhaust.hooks.content_api import ContentApiHook
from progress_exhaust.hooks.report_store.store_errors import translate_store_errors
from progress_exhaust.hooks.sunbird_api import Answer
from progress_exhaust.reading.data_frame import load_report
from progress_exhaust.reading.report_file import ReportFile
from progress_exhaust.reading.unpacking import unpack
from progress_exhaust.report.csv_file import chunk_csv
from progress_exhaust.report.eligibility import count_missing_fields, shown_fields
from progress_exhaust.report.hierarchy import Hierarchy, parse_tree, reduce_tree
from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.report.request import JobRequest, parse_request_data
from progress_exhaust.staging import manifests
from progress_exhaust.staging.batch_folder import find_manifest
from tests.cql import cql_map
from tests.faults.test_hostile_property import KINDS, json_texts, json_values, request_keys, tree_keys
from tests.oracle import Options
from tests.strategies import grand_totals, scores
from tests.unit.test_property import StoredPart, make_parts

OWN_ERRORS = (ProgressExhaustError,)
MARK = "Asha-7f3c"  # data of a learner: no message has it
CSV = f"User UUID,User Name,Progress,do_1 - Score\r\nuser-1,{MARK},100,7\r\nuser-2,=1,0,\r\n".encode()
NAME, KEY = "0133_progress_20220927", "Password123"
KINDS_OF_MANIFEST = [one for one in vars(manifests).values() if isinstance(one, type) and hasattr(one, "FILE_NAME")]


@dataclass(frozen=True)
class Target:
    """An input: what reads it, and what its bytes may be."""

    read: Callable[[bytes], object]
    strategy: st.SearchStrategy[bytes]


def mutated(*bases: bytes) -> st.SearchStrategy[bytes]:
    """Draw one of these with some bytes replaced, inserted or cut out, and perhaps without its end."""
    change = st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8))

    def change_all(drawn: tuple[bytes, list[tuple[int, int, bytes]], int]) -> bytes:
        data, changes, kept = drawn
        for place, removed, added in changes:
            start = place % (len(data) + 1)
            data = data[:start] + added + data[start + removed :]
        return data[: len(data) * kept // 100]

    return st.tuples(st.sampled_from(bases), st.lists(change, max_size=6), st.sampled_from([100, 100, 100, 99, 50, 3])).map(
        change_all
    )


def encoded(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    return texts.map(lambda text: text.encode(errors="surrogatepass"))


# Requests and the content API


def read_request_data(data: bytes) -> None:
    try:
        text = data.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    assert JobRequest("tag", "R1", text, "user-1", "org", None, ()).duplicate_key
    parse_request_data(text)


def read_hierarchy(data: bytes) -> None:
    reduced = reduce_tree(parse_tree(data.decode(errors="replace"), "do_1"), "do_1", KINDS, frozenset())
    assert Hierarchy.from_dict(json.loads(json.dumps(reduced.to_dict()))) == reduced


class _Answers(ContentApiHook):
    """The content API, which gives these bytes as each answer."""

    log = logging.getLogger(__name__)

    def __init__(self, data: bytes) -> None:
        self._answer = Answer(200, "OK", {}, data, is_redirect=False)
        self._search_path, self._hierarchy_path, self.base_url = "/search", "/hierarchy/{id}", "http://content"

    def _send(self, _method: str, _path: str, **_arguments: Any) -> Answer:
        return self._answer


def read_content_answer(data: bytes) -> None:
    api = _Answers(data)
    assert isinstance(api._answer.message, str)
    failed = []
    for read in (
        lambda: list(api.search({"a": 1}, most=5)),
        lambda: list(api._search({"identifier": ["do_1"]}, wanted=frozenset({"do_1"}))),
        lambda: api.hierarchy("do_1"),
    ):
        try:
            read()
        except OWN_ERRORS as error:
            failed.append(error)
    if failed:
        raise failed[0]


# Cassandra and Redis


def read_content_statuses(data: bytes) -> None:
    counted = count_completed(data, ContentKeys.of(["do_1", "do_2"], ["do_3"], ["do_2"]))
    assert min(counted) >= 0 and count_elements(data) >= 0
    repair_text(data).encode()


def read_aggregates(data: bytes) -> None:
    rows = [("user-1", {str(key): value for key, value in json.loads(data)})]
    as_attempts(rows_to_table(decode_archived_scores(rows), ARCHIVED_SCORES))


def read_attempts(data: bytes) -> None:
    rows = [("user-1", "do_1", *row) for row in json.loads(data)]
    rows_to_table(rows, ATTEMPTS)


def read_user(data: bytes) -> None:
    user = {key: str(value) for key, value in json.loads(data).items()}
    shown_fields(user)
    count_missing_fields(user, ("state", "board", "firstname"))


# Staging


def read_manifest(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        for kind in KINDS_OF_MANIFEST:
            if isinstance(kind.FILE_NAME, str):
                Path(folder, kind.FILE_NAME).write_bytes(data)
                found = find_manifest(Path(folder), kind)  # type: ignore[type-var]
                for path in (getattr(found, "folder", ""), getattr(found, "file_name", ""), *getattr(found, "folders", ())):
                    assert ".." not in path.split("/") and not path.startswith("/")


_WORLD = batch_world(6, 4)
_REPORT, _PARTS, _ = make_parts(_WORLD, _WORLD.requests[0], _WORLD.batches[0]["batchid"], Options(), 100, BUILT_IN["standard"])


def read_parquet(data: bytes) -> None:
    stored = StoredPart(data)
    with translate_store_errors("Staging"):  # as a stage does
        read_counts(stored)  # type: ignore[arg-type]
        attempted_contents([stored])  # type: ignore[list-item]
        max_scores([stored])  # type: ignore[list-item]
    chunk_csv(from_parquet(data), _REPORT)


def other_parquet() -> st.SearchStrategy[bytes]:
    """Draw a chunk whose columns are missing, of another type, or empty."""
    table = from_parquet(_PARTS[0])

    def change(drawn: tuple[str, str]) -> bytes:
        name, how = drawn
        place = table.column_names.index(name)
        if how == "missing":
            return to_parquet(table.drop_columns([name]), {})
        values = {"number": pa.array(range(len(table))), "null": pa.nulls(len(table)), "list": pa.array([[1]] * len(table))}
        return to_parquet(table.set_column(place, name, values[how]), {})

    return st.tuples(st.sampled_from(table.column_names), st.sampled_from(["missing", "number", "null", "list"])).map(change)


# Files for compare, open, erase and read_report


def _read_file(data: bytes, ending: str, *, is_package: bool) -> None:
    failed = []
    with TemporaryDirectory() as folder:
        path = Path(folder, f"x{ending}")
        path.write_bytes(data)
        file = ReportFile("FILE", path, KEY, key_source="nothing")
        readers: list[Callable[[], object]] = [
            lambda: compare_reports(file, file, key_label="User UUID", time_zone="Asia/Kolkata"),
            lambda: load_report(path, KEY),
        ]
        if is_package:
            readers += [
                lambda: unpack(file, Path(folder, "to")),
                lambda: LearnerSearch("user-1", [KEY]).content(io.BytesIO(data)),
            ]
        for read in readers:
            try:
                read()
            except OWN_ERRORS as error:
                failed.append(error)
        others = [one.name for one in Path(folder).iterdir() if one.name not in (path.name, "to")]
        assert not others, "a file outside the folder"
    if failed:
        raise failed[0]


def read_csv(data: bytes) -> None:
    _read_file(data, ".csv", is_package=False)


def read_zip(data: bytes) -> None:
    _read_file(data, ".zip", is_package=True)


def read_workbook(data: bytes) -> None:
    _read_file(data, ".xlsx", is_package=True)


def _zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as package:
        for name, content in files:
            package.writestr(zipfile.ZipInfo(name, (2022, 9, 27, 0, 0, 0)), content, method)
    return target.getvalue()


def _protected() -> bytes:
    import pyzipper

    target = io.BytesIO()
    with pyzipper.AESZipFile(target, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as package:
        package.setpassword(KEY.encode())
        package.writestr(f"{NAME}.csv", CSV)
    return target.getvalue()


def _workbook() -> bytes:
    from openpyxl import Workbook

    book, target = Workbook(), io.BytesIO()
    assert book.active
    for row in (["User UUID", "Progress"], ["user-1", 7]):
        book.active.append(row)
    book.create_sheet("Columns").append(["Column", "Kind", "Format"])
    book.save(target)
    return target.getvalue()


_BOOK = _workbook()
_NAMES = st.sampled_from(
    [f"{NAME}.csv", f"{NAME}.xlsx", "columns_0133_20220927.csv", "summary.txt", "../x.csv", "/x", "a/b.csv", "", "\x00"]
)
_cells = st.sampled_from([*',;\t"\n\\\x00%é', '\\"', "\r\n", "=1", MARK, "7", "100", "User UUID", "Progress"])
_csvs = st.lists(_cells, max_size=30).map(lambda some: "".join(some).encode())
packages = st.lists(st.tuples(_NAMES, st.sampled_from([CSV, b"", _BOOK, b"TEXT_KEY_ENCRYPTED_DATASET\nAAAA\n"])), max_size=4)


pairs = st.tuples(st.sampled_from(["score:do_1", "max_score:do_1", "attempts_count:do_1", "score:", "x"]), scores | st.none())
attempt_rows = st.tuples(
    st.text(max_size=2), scores, st.none() | grand_totals, st.none() | st.integers(-(2**63), 2**63 - 1), scores
)

USER_FIELDS = ["state", "rootorgid", "status", "framework_board", "firstname"]
MANIFEST_KEYS = ("folders", "folder", "file_name", "chunks", "counts", "hierarchy", "nodes", "facts")
ANSWER_KEYS = ("result", "count", "content", "identifier", "params", "errmsg", "responseCode")


def as_json(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return strategy.map(lambda value: json.dumps(value).encode())


paths = st.lists(st.sampled_from(["", "..", "a", "/", "a/../b"]), max_size=3)
results = json_values("count", "content", "identifier")

TARGETS = {
    "request_data": Target(read_request_data, encoded(json_texts(*request_keys)) | st.binary(max_size=30)),
    "hierarchy": Target(read_hierarchy, encoded(json_texts(*tree_keys)) | st.binary(max_size=30)),
    "content_answer": Target(
        read_content_answer, encoded(json_texts(*ANSWER_KEYS)) | as_json(st.fixed_dictionaries({"result": results}))
    ),
    "content_statuses": Target(read_content_statuses, mutated(cql_map({"do_1": 2, "do_2": 0, "do_9": 2}) or b"") | st.binary()),
    "aggregates": Target(read_aggregates, as_json(st.lists(pairs, max_size=6))),
    "attempts": Target(read_attempts, as_json(st.lists(attempt_rows, max_size=4))),
    "user": Target(read_user, as_json(st.dictionaries(st.sampled_from(USER_FIELDS), st.text(max_size=6)))),
    "manifest": Target(read_manifest, encoded(json_texts(*MANIFEST_KEYS)) | as_json(st.fixed_dictionaries({"folders": paths}))),
    "parquet": Target(read_parquet, mutated(*_PARTS) | other_parquet()),
    "csv": Target(read_csv, mutated(CSV, CSV.replace(b"\r\n", b"\n").replace(b",", b";")) | _csvs),
    "zip": Target(
        read_zip,
        mutated(_zipped((f"{NAME}.csv", CSV)), _protected())
        | packages.map(lambda files: _zipped(*files))
        | st.binary(max_size=40),
    ),
    "workbook": Target(read_workbook, mutated(_BOOK, _zipped((f"{NAME}.xlsx", _BOOK)))),
}
