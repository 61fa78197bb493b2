"""The store: the reports container, which requesters download from, and the private staging folder.

Both are URLs for Airflow's ObjectStoragePath; where the connection `progress_exhaust_store` exists, it is the login.
"""

import os
import shutil
from pathlib import Path

from airflow.exceptions import AirflowNotFoundException
from airflow.sdk import ObjectStoragePath
from airflow.sdk.bases.hook import BaseHook

from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.report.request import Batch, is_path_part

STANDALONE = "standalone"  # takes the place of a request's id in staging


class ReportStoreHook(BaseHook):
    """The two folders.

    :param container: URL of the reports container
    :param staging: URL of the staging folder
    """

    connection_id = "progress_exhaust_store"

    def __init__(self, *, container: str, staging: str) -> None:
        super().__init__()
        login = self._login()
        self._container = self._folder(container, login)
        self._staging = self._folder(staging, login, mode=0o700)

    def batch_folder(self, run_id: str, batch: Batch) -> ObjectStoragePath:
        """Return where the stages of one batch hand their work on."""
        return _below(self.run_folder(run_id), batch.request_id or STANDALONE, batch.batch_id)

    def scan_folder(self, run_id: str, table: str, collection_id: str, batch_id: str) -> ObjectStoragePath:
        """Return where a batch's rows of a table lie, of a scan that all batches of the run share."""
        return _below(self.run_folder(run_id) / "_scans", table, collection_id, batch_id)

    def shared_hierarchy(self, run_id: str, collection_id: str) -> ObjectStoragePath:
        """Return the file of a collection's hierarchy that all batches of the run share."""
        return _below(self.run_folder(run_id) / "_hierarchies", f"{collection_id}.json")

    def run_folder(self, run_id: str) -> ObjectStoragePath:
        """Return where all of a run's staging lies."""
        if run_id in (".", "..") or "/" in run_id:
            raise SetupError(f"run id {run_id!r} cannot be part of a staging path: start a run with another id")
        return self._staging / run_id

    def publish(self, package: Path, key: str) -> int:
        """Put a finished package into the container in one go, read back its size and return it, in bytes.

        An object that is there under the key is replaced.
        """
        target = _below(self._container, *key.split("/"))
        try:
            if target.protocol == "file":
                _move_in(package, Path(target.path))
            else:
                target.fs.put_file(str(package), target.path)
            size_bytes = int(target.fs.size(target.path))
        except OSError as error:
            raise SourceError(f"The reports container {self._container} takes no {key}: {error}") from None
        if size_bytes != package.stat().st_size:
            raise SourceError(
                f"The reports container {self._container} holds {size_bytes} bytes of {key} instead of "
                f"{package.stat().st_size}: published again at the retry"
            )
        return size_bytes

    def _login(self) -> str | None:
        try:
            self.get_connection(self.connection_id)
        except AirflowNotFoundException:
            return None
        return self.connection_id

    @staticmethod
    def _folder(url: str, login: str | None, mode: int = 0o777) -> ObjectStoragePath:
        if url.startswith("file://"):
            Path(url.removeprefix("file://")).mkdir(mode, parents=True, exist_ok=True)
        return ObjectStoragePath(url, conn_id=login)


def _below(folder: ObjectStoragePath, *parts: str) -> ObjectStoragePath:
    """Join path parts that come from data: none may lead elsewhere."""
    for part in parts:
        if not is_path_part(part):
            raise SetupError(f"{part!r} cannot be part of a path")
        folder = folder / part
    return folder


def _move_in(package: Path, target: Path) -> None:
    """Copy beside the target, then rename: nobody sees half a file under its name, whenever this is killed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    with package.open("rb") as source, beside.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())
    beside.replace(target)


def write_whole(path: ObjectStoragePath, data: bytes) -> None:
    """Write a file whole or not at all: its being there says that a piece of work is done."""
    if path.protocol == "file":
        beside = Path(f"{path.path}.part")
        beside.write_bytes(data)
        beside.replace(path.path)
    else:
        path.write_bytes(data)


def remove_folder(folder: ObjectStoragePath) -> None:
    """Remove a staging folder with all that is in it; one that is gone already is no error."""
    if folder.exists():
        folder.fs.rm(folder.path, recursive=True)
