"""Find out whether a package could be published, without publishing one."""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from airflow.sdk import ObjectStoragePath

DATA = b"written by a dry run, and deleted at once"


def probe_write(target: ObjectStoragePath) -> None:
    """Write a new file next to a package that is not written, read it and delete it. Folders that it needs are deleted too."""
    probe = target.parent / f".probe-{uuid.uuid4().hex}"
    if probe.protocol == "file":
        _probe_disk(Path(probe.path))
        return
    probe.fs.pipe_file(probe.path, DATA)
    try:
        _check(probe.fs.cat_file(probe.path), probe.name)
    finally:
        probe.fs.rm_file(probe.path)


def _probe_disk(probe: Path) -> None:
    missing = [folder for folder in probe.parents if not folder.exists()]
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as target:
            target.write(DATA)
            target.flush()
            os.fsync(target.fileno())
        _check(probe.read_bytes(), probe.name)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
        for folder in missing:
            with suppress(OSError):  # another task may have written to it meanwhile
                folder.rmdir()


def _check(data: bytes, name: str) -> None:
    if data != DATA:
        raise OSError(f"Other bytes were stored in {name} than were written")
