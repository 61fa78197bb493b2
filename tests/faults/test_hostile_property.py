"""Whatever the stores hold, the core makes a sound file of it, or reports why it cannot."""

import csv
import io
import json
import re
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.world import World
from progress_exhaust.errors import RequestError, SetupError
from progress_exhaust.extract.chunk_files import from_parquet
from progress_exhaust.hooks.cassandra.raw_values import ContentKeys, count_completed
from progress_exhaust.report.catalogue import Catalogue
from progress_exhaust.report.columns import columns
from progress_exhaust.report.csv_file import chunk_csv, write_csv
from progress_exhaust.report.hierarchy import AssessmentKinds, Hierarchy, parse_tree, reduce_tree
from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.report.plan import Limits, duplicates, plan
from progress_exhaust.report.request import JobRequest, parse_request_data
from progress_exhaust.report.xlsx_file import write_xlsx
from progress_exhaust.settings import Settings, parse_settings
from tests.cql import cql_map
from tests.oracle import Options
from tests.strategies import worlds
from tests.unit.test_property import DAY, make_parts

KINDS = AssessmentKinds(("SelfAssess",), ("QuestionSet",), ("Practice Question Set",))
ODD_TEXTS = ["", "../x", "%2e%2e", "a\\b", "\x00", "\ud800", "\u202ex", "０１", "x" * 300, "=1", "0133", "do_1", '"', "a\nb"]

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([10**400, -1, 0]), st.text(max_size=5),
    st.sampled_from(ODD_TEXTS),
)  # fmt: skip


def json_values(*keys: str) -> st.SearchStrategy[Any]:
    """Draw any JSON, with these keys at every level."""
    names = st.sampled_from(keys) | st.text(max_size=3)
    inner = st.recursive(
        scalars, lambda some: st.lists(some, max_size=4) | st.dictionaries(names, some, max_size=5), max_leaves=20
    )
    return inner | st.dictionaries(st.sampled_from(keys), inner, max_size=6)


@st.composite
def json_texts(draw: st.DrawFn, *keys: str) -> str:
    """Draw a JSON text; now and then one that is cut off, nests deeply or says a number that no double holds."""
    text = json.dumps(draw(json_values(*keys)))
    odd = draw(st.sampled_from(["whole", "whole", "whole", "cut", "deep", "huge"]))
    if odd == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if odd == "deep":
        levels = draw(st.integers(1, 1100) | st.just(100_000))
        return '{"children": [' * levels + text + "]}" * levels
    return text.replace("0", "1e999", 1) if odd == "huge" else text


request_keys = ("batchId", "batchFilter", "searchFilter", "request", "filters", "limit")


@settings(max_examples=150, deadline=None)
@given(text=json_texts(*request_keys) | st.text(max_size=20))
def test_any_request_data_is_understood_or_rejected(text: str) -> None:
    request = JobRequest("tag", "R1", text, "user-1", "org", None, ())
    assert duplicates([request, request]) == {}  # the same key is the same request
    try:
        wanted = parse_request_data(text)
    except RequestError as error:
        words = str(error)
    else:
        words = "a request"
        assert bool(wanted.batch_ids) != (wanted.search_filters is not None)
        json.dumps([wanted.search_filters], allow_nan=False).encode()
        assert wanted.search_limit is None or wanted.search_limit > 0
    assert re.search("request|batch|searchFilter", words, re.IGNORECASE) and "Error" not in words and len(words) < 100


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(json_texts(*request_keys), max_size=4),
    rows=st.lists(st.tuples(st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_TEXTS)), max_size=8),
    found=st.lists(st.sampled_from(ODD_TEXTS), max_size=4),
)
def test_any_requests_are_planned_with_a_healthy_one(texts: list[str], rows: list[Any], found: list[str]) -> None:
    rows = [row for row in rows if row[1] != "0199healthy"] + [("do_healthy", "0199healthy", "Batch")]
    catalogue = Catalogue(
        batches=lambda ids: [row for row in rows if row[1] in ids],
        batches_of=lambda ids: [row for row in rows if row[0] in ids],
        collections=lambda ids: [{"identifier": one, "name": None, "channel": ["org"]} for one in ids],
        search=lambda *_: [{"identifier": one} for one in found],
    )
    healthy = JobRequest("tag", "R", '{"batchId": "0199healthy"}', "user-1", "org", None, ())
    asked = [JobRequest("tag", f"R{number}", text, "user-1", "org", None, ()) for number, text in enumerate(texts)]
    planned = plan([*asked, healthy], catalogue, Limits(20, 1000, 1000))
    keys = [batch.object_key(DAY) for batch, _ in planned.to_make]
    assert "progress-exhaust/R/0199healthy_progress_20220927.zip" in keys
    assert len(set(keys)) == len(keys), "two batches of one request have one file"
    for key in keys:
        assert re.fullmatch(r"progress-exhaust/R[0-9]?/[A-Za-z0-9][A-Za-z0-9._-]*_progress_20220927\.zip", key)
    assert {key for key, _ in planned.rejected.items()} <= {request.key for request in asked}


tree_keys = (
    "identifier", "name", "mimeType", "contentType", "primaryCategory", "objectType", "visibility", "leafNodesCount", "children",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(text=json_texts(*tree_keys) | st.text(max_size=20), optional=st.frozensets(st.text(max_size=3), max_size=3))
def test_any_tree_is_reduced_or_rejected(text: str, optional: frozenset[str]) -> None:
    try:
        tree = parse_tree(text, "do_1")
    except RequestError:
        return
    reduced = reduce_tree(tree, "do_1", KINDS, optional)
    assert Hierarchy.from_dict(json.loads(json.dumps(reduced.to_dict()))) == reduced
    assert reduced.leaf_count >= 0 and all(node.id.encode() for node in reduced.nodes)


@settings(max_examples=80, deadline=None)
@given(text=json_texts(*Settings.model_fields, "columns", "label", "field", "like") | st.text(max_size=20))
def test_any_settings_are_read_or_rejected(text: str) -> None:
    with suppress(SetupError):
        parse_settings(text)


FORMULA = re.compile(r"[\s\ufeff\u200b]*[=+\-@＝＋－＠]")
NUMBER = re.compile(r"(-?[0-9]+(\.[0-9]{1,4})?%?)?")
PLAIN_NUMBER = re.compile(r"[\s\ufeff\u200b]*[+-]?[0-9]+(\.[0-9]+)?")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=worlds(), named=st.booleans(), layout=st.sampled_from(sorted(BUILT_IN)), page_size=st.sampled_from([1, 3, 100]))
def test_any_world_makes_a_sound_file(world: World, named: bool, layout: str, page_size: int) -> None:
    """Of a world's texts and labels no cell is a formula, none has a control character, and each row has every column."""
    options = Options(named_labels=named)
    report, parts, counts = make_parts(
        world, world.requests[0], world.batches[0]["batchid"], options, page_size, BUILT_IN[layout]
    )
    tables, shown = [from_parquet(part) for part in parts], columns(report)
    target = io.BytesIO()
    write_csv(target, report, (chunk_csv(table, report) for table in tables), bom=False)
    header, *rows = csv.reader(io.StringIO(target.getvalue().decode(), newline=""), strict=True)
    assert len(rows) == counts["reported"] and {len(row) for row in [header, *rows]} == {len(shown)}
    for row in [header, *rows]:
        for cell, column in zip(row, shown, strict=True):
            assert not re.search(r"[\x00-\x1f\x7f-\x9f]", cell)
            if column.kind == "number" and row is not header:
                assert NUMBER.fullmatch(cell)
            else:
                assert not FORMULA.match(cell) or PLAIN_NUMBER.fullmatch(cell)
    with TemporaryDirectory() as folder:
        workbook = Path(folder, "report.xlsx")
        assert write_xlsx(workbook, report, tables, DAY)[0] == counts["reported"]
        sheet = zipfile.ZipFile(workbook).read("xl/worksheets/sheet1.xml")
    tags = [element.tag.partition("}")[2] for element in ElementTree.fromstring(sheet).iter()]  # noqa: S314
    assert tags.count("row") == counts["reported"] + 1 and "f" not in tags


@pytest.mark.parametrize("odd", [2, 3], ids=["usual statuses", "an odd one"])
def test_a_million_contents_of_a_learner_are_counted_without_objects_of_them(odd: int) -> None:
    statuses = {f"do_{number}": number % 3 for number in range(10**6)} | {"do_odd": odd}
    stored = cql_map(statuses)
    assert stored
    tracemalloc.start()
    try:
        counted, unknown, _ = count_completed(stored, ContentKeys.of(["do_5", "do_8", "do_none"], ["do_2"]))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counted == 2
    assert unknown == sum(status == 2 for status in statuses.values()) - 3
    assert peak_bytes < 2 * len(stored)
