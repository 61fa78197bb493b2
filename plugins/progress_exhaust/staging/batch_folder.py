"""The staging folder of one batch in one run: its stages pass their work to each other in it.

Every write and delete happens inside a fence, which fails if a newer attempt of the same task has started: that attempt may
be finished, and the next stages may be reading.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from progress_exhaust.errors import SetupError
from progress_exhaust.staging.manifests import Manifest

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

M = TypeVar("M", bound=Manifest)


def find_manifest(folder: "ObjectStoragePath", kind: type[M]) -> M | None:
    """Return the manifest of this kind in a folder; None if it is missing."""
    try:
        return kind.model_validate_json((folder / kind.FILE_NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


class BatchFolder:
    """One batch's folder.

    :param path: where it is
    :param batch_name: for messages
    :param fence: a context manager around each write; raises ClaimLostError if a newer task attempt has started
    """

    def __init__(self, path: "ObjectStoragePath", batch_name: str, fence: Callable[[], AbstractContextManager[Any]]) -> None:
        self.path = path
        self._batch_name = batch_name
        self._fence = fence

    def read(self, kind: type[M]) -> M:
        """Return a manifest of an earlier stage; raises SetupError if it is missing."""
        manifest = self.find(kind)
        if manifest is None:
            raise SetupError(
                f"{self._batch_name}: {kind.FILE_NAME} is missing from staging ({self.path}). A batch that is done has no "
                "staging any more. Clear the stage that writes the file, or start a run with the Params request_ids and force"
            )
        return manifest

    def find(self, kind: type[M]) -> M | None:
        """Return a manifest; None if it is missing."""
        return find_manifest(self.path, kind)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write a manifest as the last act of a stage."""
        self.write_file(self.path / manifest.FILE_NAME, manifest.model_dump_json().encode())

    def delete_manifest(self, kind: type[Manifest]) -> None:
        """Delete a manifest that this stage wrote before: the stage runs again."""
        from progress_exhaust.hooks.report_store import delete_file

        with self._fence():
            delete_file(self.path / kind.FILE_NAME)

    def write_file(self, path: "ObjectStoragePath", data: bytes) -> None:
        """Write a file for the next stages, or for a retry, whole or not at all."""
        from progress_exhaust.hooks.report_store import write_atomically

        with self._fence():
            write_atomically(path, data)

    def delete_folder(self, name: str) -> None:
        """Delete a folder that this stage wrote before."""
        from progress_exhaust.hooks.report_store import delete_folder

        with self._fence():
            delete_folder(self.path / name)

    def enrolled_chunk(self, number: int) -> "ObjectStoragePath":
        """Return the path of a chunk's enrolments (Parquet)."""
        return self.path / "enrolled" / f"{number:05d}.parquet"

    def facts_chunk(self, number: int) -> "ObjectStoragePath":
        """Return the path of a chunk's facts (Parquet): all that pivot needs of its learners."""
        return self.path / "facts" / f"{number:05d}.parquet"
