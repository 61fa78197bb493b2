"""What is in a package in addition to a csv or instead of it, by setting, on real servers."""

import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dev.world import World, sample_world
from progress_exhaust import read_report
from tests.integration import golden
from tests.integration.install import REPORT_DAY, Install
from tests.oracle import expected_counts, expected_csv, expected_key

NAME = "literacy-batch1"


@pytest.fixture
def world(queue: Install) -> World:
    world = sample_world()
    request, _ = golden.reports(world)[NAME]
    queue.load(World(**(world.__dict__ | {"requests": [request]})))
    return world


def packed(install: Install, world: World) -> dict[str, bytes]:
    """Return what is in the one package, by name."""
    key = expected_key(*golden.reports(world)[NAME], REPORT_DAY).removesuffix(".csv") + ".zip"
    assert list(install.published()) == [key]
    with zipfile.ZipFile(io.BytesIO(install.published()[key])) as package:
        assert package.testzip() is None
        return {name: package.read(name) for name in package.namelist()}


def test_a_workbook_instead_of_the_csv(queue: Install, world: World) -> None:
    request, batch = golden.reports(world)[NAME]
    done = queue.run_dag(settings={"output_format": "xlsx", "learners_per_chunk": 40})
    assert (done.state, done.failed()) == ("success", [])
    assert list(packed(queue, world)) == [f"{batch}_progress_{REPORT_DAY:%Y%m%d}.xlsx"]
    [key] = queue.published()
    assert len(read_report(queue.reports / key)) == expected_counts(world, request, batch).reported
    assert queue.staged() == []


def test_a_csv_a_workbook_and_the_description_of_the_columns(queue: Install, world: World, tmp_path: Path) -> None:
    request, batch = golden.reports(world)[NAME]
    done = queue.run_dag({"output_format": "both"}, settings={"columns_file": True, "learners_per_chunk": 40})
    assert (done.state, done.failed()) == ("success", [])
    found, name = packed(queue, world), f"{batch}_progress_{REPORT_DAY:%Y%m%d}"
    assert list(found) == [f"{name}.csv", f"{name}.xlsx", f"columns_{batch}_{REPORT_DAY:%Y%m%d}.csv"]
    assert found[f"{name}.csv"] == expected_csv(world, request, batch, REPORT_DAY)
    (tmp_path / "x.xlsx").write_bytes(found[f"{name}.xlsx"])
    [key] = queue.published()
    csv, workbook = (read_report(path) for path in (queue.reports / key, tmp_path / "x.xlsx"))
    assert list(csv.columns) == list(workbook.columns) and len(csv) == expected_counts(world, request, batch).reported
    for label in csv.columns:
        if csv[label].dtype == "string":  # in a csv, an apostrophe is before a formula
            cells, others = csv[label].fillna(""), workbook[label].fillna("")
            assert ((cells == others) | (cells == "'" + others)).all(), label
        else:
            assert csv[label].equals(workbook[label]), label


def test_a_summary_with_the_csv(queue: Install, world: World) -> None:
    request, batch = golden.reports(world)[NAME]
    began = datetime.now(UTC)
    assert queue.run_dag(settings={"summary_file": True, "report_timezone": "Asia/Kolkata"}).state == "success"
    found = packed(queue, world)
    csv = f"{batch}_progress_{REPORT_DAY:%Y%m%d}.csv"
    note = f"summary_{batch}_{REPORT_DAY:%Y%m%d}.txt"
    assert list(found) == [csv, note]  # the report comes first
    assert found[csv] == expected_csv(world, request, batch, REPORT_DAY)
    summary, counts = found[note].decode(), expected_counts(world, request, batch)
    assert (
        f"Enrolled learners: {counts.enrolled:,}\r\n" in summary and f"Learners in the file: {counts.reported:,}\r\n" in summary
    )
    assert (
        f"\r\nAs of {began.year}-" in summary
        and f"  {counts.not_enrolled['no_date']:,} with an enrolment that has no date" in summary
    )
    people = {row["userid"] for row in world.enrolments} | {user.get("lastname", "") for _, user in world.users}
    assert not [word for word in people if len(word) > 4 and word in summary]
