"""Find out whether a package could be published, without publishing one."""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from airflow.sdk import ObjectStoragePath

DATA = b"written by a check or a dry run, and deleted at once"


class WriteProbe:
    """A new file next to a package that is not written.

    :param target: the path of the package
    """

    def __init__(self, target: ObjectStoragePath) -> None:
        self._path = target.parent / f".probe-{uuid.uuid4().hex}"
        self._exists = False
        self._new_folders: list[Path] = []  # the innermost one first

    @property
    def name(self) -> str:
        return str(self._path.name)

    def write(self) -> None:
        """Write the file and read it. Folders that it needs are made."""
        if self._path.protocol == "file":
            self._write_to_disk(Path(self._path.path))
        else:
            self._path.fs.pipe_file(self._path.path, DATA)
            self._exists = True
        if self._path.fs.cat_file(self._path.path) != DATA:
            raise OSError(f"Other bytes were stored in {self.name} than were written")

    def _write_to_disk(self, path: Path) -> None:
        self._new_folders = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            self._exists = True
            target.write(DATA)
            target.flush()
            os.fsync(target.fileno())

    def delete(self) -> None:
        """Delete the file, if it was written, and the folders that were made for it."""
        if self._exists:
            self._path.fs.rm_file(self._path.path)
        for folder in self._new_folders:
            with suppress(OSError):  # another task may have written to it meanwhile
                folder.rmdir()
