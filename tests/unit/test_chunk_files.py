"""Files of staging that another program has written, or that are damaged."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dev.world import batch_world
from progress_exhaust.errors import SetupError
from progress_exhaust.extract.chunk_files import attempted_contents, from_parquet, max_scores, read_counts, to_parquet
from progress_exhaust.report.layout import BUILT_IN
from progress_exhaust.staging.batch_folder import find_manifest
from progress_exhaust.staging.manifests import PivotManifest, UndeletedFolders
from tests.oracle import Options
from tests.unit.test_property import make_parts

NAME = "Asha-7f3c"


def chunk() -> pa.Table:
    world = batch_world(3, 2)
    _, parts, _ = make_parts(world, world.requests[0], world.batches[0]["batchid"], Options(), 10, BUILT_IN["standard"])
    return from_parquet(parts[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["completed_at"]),
        lambda table: table.set_column(0, "user_id", pa.array(range(len(table)))),
        lambda table: table.set_column(table.column_names.index("attempts"), "attempts", pa.array([[NAME]] * len(table))),
        lambda table: table.append_column("other", pa.array([NAME] * len(table))),
    ],
    ids=["missing", "type", "nested", "more"],
)
def test_a_chunk_of_another_form_is_an_error_without_its_data(change: Callable[[pa.Table], pa.Table]) -> None:
    with pytest.raises(SetupError, match="Clear the stage extract of the batch") as raised:
        from_parquet(to_parquet(change(chunk()), {}))
    assert NAME not in str(raised.value)


@pytest.mark.parametrize("counts", [b"[]", b'{"reported": "many"}', b"\xff", None])
def test_counts_that_are_not_numbers_are_an_error(tmp_path: Path, counts: bytes | None) -> None:
    path = tmp_path / "00000.parquet"
    table = chunk().replace_schema_metadata({b"counts": counts} if counts else None)
    pq.write_table(table, path)
    with pytest.raises(SetupError, match="Clear the stage extract of the batch"):
        read_counts(path)


@pytest.mark.parametrize("read", [read_counts, lambda path: attempted_contents([path]), lambda path: max_scores([path])])
def test_a_cut_file_is_an_error(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(to_parquet(chunk(), {})[:-100])
    with pytest.raises(SetupError, match="Clear the stage extract of the batch"):
        read(path)


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc", "a//b", "."])
def test_a_manifest_with_a_path_out_of_its_folder_counts_as_missing(tmp_path: Path, path: str) -> None:
    (tmp_path / "undeleted.json").write_text(f'{{"folders": ["a/b", "", "{path}"]}}')
    assert find_manifest(tmp_path, UndeletedFolders) is None
    facts = {"rows": 1, "size_bytes": 1, "sha256": "", "cut_cells": 0, "folder": "pivot-1", "file_name": "x.csv"}
    manifest = PivotManifest.model_validate(facts | {"summary_name": None})
    for field in ("folder", "file_name", "columns_name", "summary_name"):
        (tmp_path / "pivot.json").write_text(manifest.model_copy(update={field: path}).model_dump_json())
        assert find_manifest(tmp_path, PivotManifest) is None
    (tmp_path / "pivot.json").write_text(manifest.model_dump_json())
    assert find_manifest(tmp_path, PivotManifest) == manifest
