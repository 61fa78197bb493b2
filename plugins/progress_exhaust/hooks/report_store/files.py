"""Files and folders of a store: write whole files, delete folders, list what is there."""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath

from progress_exhaust.hooks.report_store.store_errors import translate_store_errors

TIME_KEYS = ("LastModified", "last_modified", "mtime", "updated")  # of the clients: when an object was written


@dataclass(frozen=True)
class StoredFile:
    """A file below one of the two folders."""

    name: str  # below the folder; an empty local folder counts as a file of 0 bytes, and its name ends in /
    size_bytes: int
    changed_at: datetime


def write_atomically(path: ObjectStoragePath, data: bytes) -> None:
    """Write a file whole or not at all: its existence shows that a piece of work is done."""
    if path.protocol != "file":
        path.fs.pipe_file(path.path, data)
        return
    target = Path(path.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")  # two tasks may write the same file at the same time
    try:
        partial.write_bytes(data)
    except OSError:
        partial.unlink(missing_ok=True)  # on a full disk, others need its bytes
        raise
    partial.replace(target)


def make_folder(folder: ObjectStoragePath) -> None:
    """Make a local folder. A store has no folders, and a misspelt name must not make a bucket."""
    if folder.protocol == "file":
        Path(folder.path).mkdir(parents=True, exist_ok=True)


def delete_file(path: ObjectStoragePath) -> None:
    """Delete one file; a file that does not exist is not an error.

    `ObjectStoragePath.unlink` asks S3 to delete several objects, and some stores refuse that.
    """
    with suppress(FileNotFoundError):
        if path.exists():
            path.fs.rm_file(path.path)


def delete_folder(folder: ObjectStoragePath) -> bool:
    """Delete a staging folder with everything in it; a folder that does not exist is not an error.

    A file that cannot be deleted does not keep the others. Raises SetupError or SourceError if files remain. Returns False if
    the files had to be deleted one by one.
    """
    with translate_store_errors(f"Staging {folder}"), suppress(FileNotFoundError):
        try:
            folder.fs.rm(folder.path, recursive=True)
        except FileNotFoundError:
            raise
        except Exception:
            if folder.protocol == "file":
                shutil.rmtree(folder.path, ignore_errors=True)  # it goes on after an error
                if Path(folder.path).exists():
                    raise
                return True
        else:
            # The client of S3 does not report objects that the store did not delete.
            if folder.protocol != "s3" or not folder.fs.find(folder.path):
                return True
        _delete_one_by_one(folder)
        return False
    return True


def _delete_one_by_one(folder: ObjectStoragePath) -> None:
    """Delete the files of a store's folder, each with a request of its own: some stores refuse to delete several at once."""
    names, errors = folder.fs.find(folder.path), []
    for name in names:
        try:
            folder.fs.rm_file(name)
        except FileNotFoundError:
            pass
        except Exception as error:
            errors.append(error)
    if errors:
        with translate_store_errors(f"Staging {folder}: {len(errors)} of {len(names)} files could not be deleted"):
            raise errors[0]


def delete_empty_folder(folder: ObjectStoragePath) -> None:
    """Delete a local folder if it is empty. A store has no folders."""
    if folder.protocol == "file":
        with suppress(OSError):  # not empty, or missing
            Path(folder.path).rmdir()


def list_files(folder: ObjectStoragePath) -> Iterator[StoredFile]:
    """Yield the files below a folder. Symbolic links are neither followed nor listed."""
    if folder.protocol == "file":
        yield from _list_local_files(Path(folder.path))
        return
    for name, info in folder.fs.find(folder.path, detail=True).items():
        if info["type"] == "file" and not name.endswith("/"):
            yield StoredFile(name.removeprefix(f"{folder.path}/"), int(info["size"]), _changed_at(info))


def _list_local_files(top: Path) -> Iterator[StoredFile]:
    if top.is_symlink():
        return
    for folder, folders, names in os.walk(top):
        for path in [Path(folder, name) for name in names] or ([] if folders else [Path(folder)]):
            found = path.lstat()
            is_folder = stat.S_ISDIR(found.st_mode)
            if stat.S_ISREG(found.st_mode) or (is_folder and path != top):
                name = path.relative_to(top).as_posix()
                size_bytes, changed_at = found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)
                yield StoredFile(f"{name}/", 0, changed_at) if is_folder else StoredFile(name, size_bytes, changed_at)


def _changed_at(info: Mapping[str, Any]) -> datetime:
    """Return when an object was written; each client has another name and type for it."""
    written = next(info[name] for name in TIME_KEYS if info.get(name))
    instant = datetime.fromisoformat(written) if isinstance(written, str) else written
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
