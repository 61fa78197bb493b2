"""What the stages do with a store, on each of the stores."""

import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from random import randbytes
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from airflow.sdk import ObjectStoragePath

from progress_exhaust.errors import SetupError
from progress_exhaust.extract.scan_files import BatchRows, number_rows, write_scan_files
from progress_exhaust.extract.schemas import ENROLMENT, rows_to_table
from progress_exhaust.extract.sorted_enrolments import sort_enrolments
from progress_exhaust.hooks.cassandra.models import Enrolment
from progress_exhaust.hooks.report_store import SIGNED_LINK_SECONDS, delete_folder, make_folder, write_atomically
from progress_exhaust.report.request import Batch
from tests.stores.conftest import Buckets

# The Azure client's own way of sending a block: nothing here can fix it.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
KEY = "progress-exhaust/R1/B1_progress_20220927.zip"
RUN = "manual__2022-09-27T08:00:00+00:00"
BATCH = Batch("tag", "R1", "org", "B1", "do_1")


def package(folder: Path, data: bytes) -> Path:
    path = folder / "finished.zip"
    path.write_bytes(data)
    return path


def test_a_package_is_published_alone_and_one_of_the_same_day_is_replaced(buckets: Buckets, tmp_path: Path) -> None:
    for data in (b"first" * 1000, b"second"):
        assert buckets.hook().publish(package(tmp_path, data), KEY) == len(data)
        assert buckets.published() == {KEY: data}


def test_a_package_of_many_megabytes_arrives_whole(buckets: Buckets, tmp_path: Path) -> None:
    data = bytes(range(256)) * (120 * 2**20 // 256)  # over 100 MiB: in several parts, where a store has parts
    assert buckets.hook().publish(package(tmp_path, data), KEY) == len(data)
    assert buckets.published() == {KEY: data}


def test_a_package_whose_md5_the_store_gives_is_not_read_back(
    buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ObjectStoragePath, "open")
    assert buckets.hook().publish(package(tmp_path, b"zip"), KEY) == 3


def test_a_stage_sees_what_another_worker_wrote_a_moment_ago(buckets: Buckets) -> None:
    here = buckets.hook().batch_folder(RUN, BATCH)
    write_atomically(here / "batch.json", b"{}")
    assert [path.name for path in here.glob("*")] == ["batch.json"]
    assert not (here / "extract.json").exists()
    other = f"folder = hook.request_folder({RUN!r}, 'tag', 'R1') / 'B1'; "
    other += "write_atomically(folder / 'extract.json', b'[1]'); write_atomically(folder / 'batch.json', b'[2]')"
    assert buckets.elsewhere(other).wait() == 0
    assert (here / "extract.json").exists()
    assert sorted(path.name for path in here.glob("*")) == ["batch.json", "extract.json"]
    assert ((here / "extract.json").read_text(), (here / "batch.json").read_text()) == ("[1]", "[2]")
    assert buckets.elsewhere(f"delete_folder(hook.run_folder({RUN!r}))").wait() == 0
    assert not (here / "extract.json").exists()
    assert list(here.glob("*")) == []


def written_scan(buckets: Buckets) -> tuple[BatchRows, list[Enrolment]]:
    """Write a scan of eight batches as two files; return the rows of one batch, and what they are."""
    folder = buckets.hook().scans_folder(RUN, "enrolments") / "now"
    assert folder.path.endswith(f"/staging/{RUN}/_shared/scans/enrolments/now")
    keys = [("do_1", f"B{number}") for number in range(8)]
    wide = [Enrolment(f"u{number:03}", True, 0, None, None, randbytes(4096), None, None, None) for number in range(150)]
    ranges = ([(key, rows_to_table(wide[start::2], ENROLMENT)) for key in keys] for start in (1, 0))
    scanned = (number_rows(found, keys, ENROLMENT) for found in ranges)
    files, sizes = write_scan_files(scanned, folder, len(keys), bytes_per_file=10**6)
    assert (files, len(folder.fs.find(folder.path)), sizes[5].rows) == (2, 2, 150)
    return BatchRows(folder, files, 5, sizes[5]), wide


def test_a_batch_finds_its_rows_in_the_files_of_a_scan(buckets: Buckets) -> None:
    rows, wide = written_scan(buckets)
    with ExitStack() as stack:
        assert list(sort_enrolments(rows, stack, bytes_per_bucket=10**5)) == wide


def test_a_batch_reads_few_bytes_of_other_batches(s3_buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, wide = written_scan(s3_buckets)
    monkeypatch.setattr("progress_exhaust.extract.scan_files.BYTES_READ_AHEAD", 2**16)
    lengths: list[int] = []
    client = type(rows.folder.fs.open(f"{rows.folder.path}/00000.arrow"))
    fetch = client._fetch_range

    def counted(self: Any, start: int, end: int) -> Any:
        lengths.append(end - start)
        return fetch(self, start, end)

    monkeypatch.setattr(client, "_fetch_range", counted)
    assert sum(len(table) for table in rows.tables()) == len(wide)
    assert rows.size.bytes < sum(lengths) < 1.5 * rows.size.bytes


def test_a_stage_that_restarts_deletes_its_manifest(buckets: Buckets) -> None:
    folder = buckets.hook().batch_folder(RUN, BATCH)
    write_atomically(folder / "pivot.json", b"{}")
    for _ in range(2):
        (folder / "pivot.json").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            (folder / "pivot.json").read_text()


def test_retention_sees_packages_and_staging_with_their_age_and_removes_them(buckets: Buckets, tmp_path: Path) -> None:
    hook = buckets.hook()
    hook.publish(package(tmp_path, b"zip"), KEY)
    hook._container.fs.pipe_file((hook._container / "progress-exhaust" / "notes.txt").path, b"")
    write_atomically(hook.batch_folder(RUN, BATCH) / "batch.json", b"{}")
    [found] = hook.packages()
    [(folder, run_id, staged)] = hook.staged_files()
    assert (found.name, found.size_bytes) == (KEY, 3)
    assert (folder, run_id, staged.size_bytes) == (RUN, RUN, 2)
    assert staged.name.startswith(f"{RUN}/") and staged.name.endswith("-R1/B1/batch.json")
    assert abs((found.changed_at - staged.changed_at).total_seconds()) < 60
    for _ in range(2):
        hook.delete_package(KEY)
        delete_folder(hook.run_folder(RUN))
    assert list(buckets.published()) == ["progress-exhaust/notes.txt"]
    assert buckets.staged() == []


def test_a_missing_container_is_reported_and_not_made(buckets: Buckets, tmp_path: Path) -> None:
    buckets.name = "nowhere"
    hook = buckets.hook()
    for work in (
        lambda: hook.publish(package(tmp_path, b"zip"), KEY),
        lambda: _staged(hook),
        hook.is_public,
    ):
        with pytest.raises(SetupError, match=r"nowhere.*Make the bucket, container or folder that is missing"):
            work()
    assert not hook._container.fs.exists("reports-nowhere")


def _staged(hook: object) -> None:
    folder = hook.batch_folder(RUN, BATCH)
    make_folder(folder)
    with hook.translate_store_errors():
        write_atomically(folder / "batch.json", b"{}")


# Anonymous users


def test_a_private_container_is_not_public(buckets: Buckets) -> None:
    hook = buckets.hook()
    if buckets.store.scheme == "gs":  # its emulator checks no login
        assert hook.is_public()
    else:
        assert not hook.is_public()
        hook.check_staging_is_private(RUN)
    assert (buckets.published(), buckets.staged()) == ({}, [])


def test_an_open_container_is_found_out_and_an_open_staging_refused(buckets: Buckets) -> None:
    hook = buckets.hook()
    if buckets.store.scheme != "gs":
        buckets.make_public("reports")
        assert hook.is_public()
        hook.check_staging_is_private(RUN)
        buckets.make_public("private")
    with pytest.raises(SetupError, match=r"Staging .*://private-.* is public: everyone can download from it. Make it private"):
        hook.check_staging_is_private(RUN)
    assert (buckets.published(), buckets.staged()) == ({}, [])


def test_a_signed_link_downloads_the_package_alone_and_without_a_login(buckets: Buckets, tmp_path: Path) -> None:
    hook = buckets.hook()
    hook.publish(package(tmp_path, b"zip"), KEY)
    if buckets.store.scheme == "gs":  # the emulator takes no login that could sign
        with pytest.raises(SetupError, match=r"connection progress_exhaust_store cannot sign links .*Use one with its own key"):
            hook.sign(KEY)
        return
    hook.publish(package(tmp_path, b"another"), KEY.replace("B1", "B3"))
    link = hook.sign(KEY)
    assert requests.get(link, timeout=30).content == b"zip"
    assert 290 < _seconds_left(link) <= SIGNED_LINK_SECONDS
    assert "secret" not in link
    assert not requests.get(link.partition("?")[0], timeout=30).ok
    if buckets.store.scheme == "abfs":  # moto looks at no signature
        assert requests.get(link.replace("B1", "B3"), timeout=30).status_code == 403, "it opens no other file"
        assert requests.put(link, b"other", headers={"x-ms-blob-type": "BlockBlob"}, timeout=30).status_code == 403
    with pytest.raises(SetupError, match="has no package"):
        hook.sign(KEY.replace("B1", "B2"))
    with pytest.raises(SetupError, match="has no package"):
        hook.sign("../private/batch.json")


def _seconds_left(link: str) -> float:
    """Return how long a signed link is good, as the store reads it."""
    query = {name.lower(): value for name, [value] in parse_qs(urlsplit(link).query).items()}
    if "x-amz-expires" in query:
        return float(query["x-amz-expires"])
    end = float(query["expires"]) if "expires" in query else datetime.fromisoformat(query["se"]).timestamp()
    return end - time.time()
