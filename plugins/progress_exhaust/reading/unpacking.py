"""Unpack and decrypt a report into a folder: all of its files, or none."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from progress_exhaust.errors import InputError, SetupError
from progress_exhaust.reading.report_file import Entry, ReportFile
from progress_exhaust.report.request import is_path_part

SCRATCH = ".progress-exhaust-"  # start of the name of the folder that has the files until all are complete


@dataclass(frozen=True)
class Unpacked:
    """A clear file in the folder, and how it was protected before."""

    name: str
    size_bytes: int
    protection: str


def unpack(report: ReportFile, folder: Path, *, overwrite: bool = False) -> list[Unpacked]:
    """Write the clear files of a report into a folder, which is made if it is missing. Only this user can read them.

    Raises InputError if the report cannot be opened, has a name that is not a plain file name, or would replace a folder, or a
    file without `overwrite`; SetupError if the folder cannot be written.
    """
    with report.entries() as entries:
        if any(entry.is_clear for entry in entries):
            raise InputError(f"{report.name} is neither a zip nor encrypted. Open it with a spreadsheet program")
        if not entries:
            raise InputError(f"{report.name} is a zip without a report")
        names = [entry.name for entry in entries]
        _check_names(report, names)
        for name in names:
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                raise InputError(f"{folder} already has a folder {name}. Choose another folder by --to")
        existing = [name for name in names if os.path.lexists(folder / name)]
        if existing and not overwrite:
            raise InputError(
                f"{folder} already has {existing[0]}. Choose another folder by --to, or replace files by --overwrite"
            )
        with _made(folder), TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            size_bytes, free_bytes = sum(entry.size_bytes for entry in entries), shutil.disk_usage(folder).free
            if size_bytes > free_bytes:
                raise InputError(f"{report.name} has {size_bytes:,} bytes, and {folder} has room for {free_bytes:,}")
            found = [_write(entry, Path(scratch)) for entry in entries]
            for name in names:
                (Path(scratch) / name).replace(folder / name)
    return found


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder. If the block fails, a folder that was made is removed, and an OSError is a SetupError."""
    exists = folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if not exists:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise SetupError(f"{folder} cannot be written: {error.strerror or type(error).__name__}") from None
        raise


def _check_names(report: ReportFile, names: Sequence[str]) -> None:
    if not all(map(is_path_part, names)):
        raise InputError(f"{report.name} has a file whose name is not a plain file name. It is not a report: nothing is written")
    if len({name.lower() for name in names}) < len(names):
        raise InputError(f"{report.name} has two files of the same name. It is not a report: nothing is written")


def _write(entry: Entry, folder: Path) -> Unpacked:
    path, size_bytes = folder / entry.name, 0
    path.touch(mode=0o600)
    with entry.open() as (blocks, protection), path.open("wb") as target:
        for block in blocks:
            size_bytes += target.write(block)
    return Unpacked(entry.name, size_bytes, protection)
