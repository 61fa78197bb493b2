"""The hook of the store."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from airflow.sdk import ObjectStoragePath
from airflow.sdk.bases.hook import BaseHook

from progress_exhaust.airflow_names import AirflowNotFoundException
from progress_exhaust.errors import ProgressExhaustError, SetupError
from progress_exhaust.hooks.report_store.files import StoredFile, delete_folder, list_files, write_atomically
from progress_exhaust.hooks.report_store.folders import join_path, open_folder
from progress_exhaust.hooks.report_store.public_access import anonymous_url, is_public
from progress_exhaust.hooks.report_store.publishing import longest_put_seconds, md5_of, publish_local, publish_to_store
from progress_exhaust.hooks.report_store.store_errors import CONNECTION_ID, translate_store_errors
from progress_exhaust.hooks.report_store.write_probe import DATA, WriteProbe
from progress_exhaust.report.request import JOB_ID, Batch, is_package_key
from progress_exhaust.security.tls import Tls

STANDALONE = "standalone"  # replaces the request id in staging paths of a run without a request
CHECKSUM_SECONDS = 3600  # on a slow disk
TAG_CHARACTERS = 12  # of the tag's digest, in the name of a request's folder
INSTALLATION_CHARACTERS = 12  # of the installation's id, as the name of its folder
INSTALLATION_FOLDER = re.compile(f"[0-9a-f]{{{INSTALLATION_CHARACTERS}}}")
SIGNED_LINK_SECONDS = 300
READ_BYTES = 8 << 20  # that are read ahead of a package


class ReportStoreHook(BaseHook):
    """The reports container and the staging folder.

    :param container_url: URL of the reports container
    :param staging_url: URL of the staging folder
    :param installation: id of this Airflow: each one has a folder of its own in staging, because run ids may be the same
    :param timeout_seconds: how long the store may take to answer a put, in addition to the time for the bytes
    """

    def __init__(self, *, container_url: str, staging_url: str, installation: str = "", timeout_seconds: float = 60) -> None:
        super().__init__()
        self._timeout_seconds = timeout_seconds
        self._installation_folder = installation[:INSTALLATION_CHARACTERS]
        self._container_url, self._staging_url = container_url, staging_url
        self._connection_id = self._existing_connection_id()
        self._container = open_folder("reports_container_url", container_url, self._connection_id)

    @cached_property
    def _staging(self) -> ObjectStoragePath:
        """Open the staging folder; the page only signs links, and has no access to it."""
        return open_folder("staging_url", self._staging_url, self._connection_id, mode=0o700)

    # Staging

    def batch_folder(self, run_id: str, batch: Batch) -> ObjectStoragePath:
        """Return the folder in which the stages of a batch pass their work to each other."""
        return join_path(self.request_folder(run_id, batch.tag, batch.request_id), batch.batch_id)

    def request_folder(self, run_id: str, tag: str, request_id: str) -> ObjectStoragePath:
        """Return the folder of a request: rows with another tag may have the same request id."""
        name = f"{hashlib.sha256(tag.encode()).hexdigest()[:TAG_CHARACTERS]}-{request_id}" if request_id else STANDALONE
        return join_path(self.run_folder(run_id), name)

    def scans_folder(self, run_id: str, table: str) -> ObjectStoragePath:
        """Return the folder of the scans of a table that all batches of the run share."""
        return self.shared_folder(run_id) / "scans" / table

    def shared_hierarchy(self, run_id: str, collection_id: str) -> ObjectStoragePath:
        """Return the path of the hierarchy that all batches of the run with this collection share."""
        return join_path(self.shared_folder(run_id) / "hierarchies", f"{collection_id}.json")

    def shared_folder(self, run_id: str) -> ObjectStoragePath:
        """Return the folder of everything that batches of a run share."""
        return self.run_folder(run_id) / "_shared"

    def run_folder(self, run_id: str) -> ObjectStoragePath:
        """Return the staging folder of a run."""
        if run_id in (".", "..") or "/" in run_id:
            raise SetupError(f"Run id {run_id!r} cannot be part of a staging path. Start a run with another id")
        return self.staged_folder(f"{self._installation_folder}/{run_id}" if self._installation_folder else run_id)

    def staged_folder(self, name: str) -> ObjectStoragePath:
        """Return a folder of staging by the name that staged_files gives."""
        return self._staging / name

    def staged_files(self) -> Iterator[tuple[str, str | None, StoredFile]]:
        """Yield the files in staging, each with its folder and the id of the run that wrote it; None for another installation.

        Folders that an earlier version wrote, without an installation, belong to this installation, too.
        """
        with self.translate_store_errors():
            for file in list_files(self._staging):
                first, _, rest = file.name.partition("/")
                if self._installation_folder and first == self._installation_folder:
                    if run_id := rest.partition("/")[0]:
                        yield f"{first}/{run_id}", run_id, file
                else:
                    yield first, None if INSTALLATION_FOLDER.fullmatch(first) else first, file

    def staged_run_ids(self) -> list[str]:
        """Return the ids of the runs of this installation that have a folder in staging."""
        folder = self._staging / self._installation_folder
        with self.translate_store_errors():
            try:
                found = folder.fs.ls(folder.path, detail=True)
            except FileNotFoundError:
                return []
        names = {entry["name"].rstrip("/") for entry in found if entry["type"] == "directory"}
        return sorted(name.rpartition("/")[2] for name in names - {folder.path.rstrip("/")})

    def check_staging_is_private(self, run_id: str) -> None:
        """Raise SetupError if anonymous users can download from staging: it contains the learners' data in clear.

        The check is in the folder of the run, so whatever a fault leaves of it is deleted with the run. A local run folder is
        made here without rights for other users, whatever the mode of staging is.
        """
        folder = self.run_folder(run_id)
        with self.translate_store_errors():
            if folder.protocol == "file":
                Path(folder.path).parent.mkdir(0o700, exist_ok=True)  # of the installation
                Path(folder.path).mkdir(0o700, exist_ok=True)
            public = is_public(folder)
        if public:
            raise SetupError(f"Staging {self._staging_url} is public: everyone can download from it. Make it private")

    def probe_staging(self, run_id: str) -> bool:
        """Write two files to staging, read them and delete them. Return False if they had to be deleted one by one.

        Raises SetupError or SourceError if a file could not be written, read or deleted.
        """
        folder = self.run_folder(run_id)
        try:
            with self.translate_store_errors():
                for name in ("1", "2"):
                    write_atomically(folder / name, DATA)
                    if folder.fs.cat_file((folder / name).path) != DATA:
                        raise OSError(f"Other bytes were stored in {folder / name} than were written")
        except ProgressExhaustError:
            with suppress(ProgressExhaustError):
                delete_folder(folder)
            raise
        return delete_folder(folder)

    def translate_store_errors(self) -> AbstractContextManager[None]:
        """Raise errors of staging in the block as SetupError or SourceError."""
        return translate_store_errors(f"Staging {self._staging_url}")

    # The reports container

    def publish(self, package: Path, key: str, publisher: str = "") -> int:
        """Put a finished package into the container, check what has arrived, and return its size in bytes.

        It replaces an object with the same key.
        """
        target, md5 = join_path(self._container, *key.split("/")), md5_of(package)
        with self._translate_container_errors():
            if target.protocol == "file":
                publish_local(package, Path(target.path), md5, publisher)
            else:
                publish_to_store(package, target, md5, self._timeout_seconds)
        return package.stat().st_size

    def longest_publish_seconds(self, package: Path) -> float:
        """Return how long `publish` may take: to put a package, and to read it back if the store reports no checksum."""
        return 2 * longest_put_seconds(package, self._timeout_seconds) + CHECKSUM_SECONDS

    def check_writable(self, key: str) -> None:
        """Raise SetupError or SourceError if no package with this key can be published.

        It writes a file to the container and deletes it. If the login cannot delete, that is a warning: publishing is possible.
        """
        if error := self.write_probe(key):
            self.log.warning("The dry run could not delete its file: %s", error)

    def write_probe(self, key: str) -> ProgressExhaustError | None:
        """Write a file next to the package with this key, read it and delete it. Return the error if it could not be deleted.

        Raises SetupError or SourceError if it could not be written or read.
        """
        probe = WriteProbe(join_path(self._container, *key.split("/")))
        not_deleted = None
        try:
            with self._translate_container_errors():
                probe.write()
        finally:
            try:
                with self._translate_container_errors():
                    probe.delete()
            except ProgressExhaustError as error:
                file = f"{key.rpartition('/')[0]}/{probe.name}"
                not_deleted = type(error)(f"{file} could not be deleted. Delete it yourself: {error}")
        return not_deleted

    def holds(self, key: str) -> bool:
        """Tell whether the container has a package with this key, which may come from a row of job_request."""
        if not is_package_key(key):
            return False
        with self._translate_container_errors():
            return bool((self._container / key).exists())

    def sign(self, key: str) -> str:
        """Return a URL that downloads a package without a login for SIGNED_LINK_SECONDS: a secret, for one person's browser.

        Raises SetupError if the container is a local folder, or if the login cannot sign.
        """
        if not self.holds(key):
            raise SetupError(
                f"The reports container {self._container_url} has no package {key!r}. Retention may have deleted it: ask for the "
                "report again"
            )
        path = self._container / key
        if path.protocol == "file":
            raise SetupError(
                f"The reports container {self._container_url} is a local folder and has no links. The file is {key} in it"
            )
        with self._translate_container_errors():
            try:
                return str(path.fs.sign(path.path, expiration=SIGNED_LINK_SECONDS))
            except (AttributeError, NotImplementedError) as error:
                raise SetupError(
                    f"The login of connection {CONNECTION_ID} cannot sign links ({error}). Use one with its own key"
                ) from None

    def is_public(self) -> bool:
        """Tell whether anonymous users can download from the container."""
        with self._translate_container_errors():
            return is_public(self._container / JOB_ID)

    def tls(self) -> Tls:
        """Return how the connection to the reports container is protected."""
        if self._container.protocol == "file":
            return Tls("", is_encrypted=False)
        with self._translate_container_errors():
            url = urlsplit(anonymous_url(self._container / JOB_ID))
        extra = self.get_connection(self._connection_id).extra_dejson if self._connection_id else {}
        return Tls(url.hostname or "", url.scheme == "https", extra.get("verify") is not False)

    def packages(self) -> Iterator[StoredFile]:
        """Yield the published packages, and the partial copies that a killed task left; the name is the key."""
        with self._translate_container_errors():
            for file in list_files(self._container / JOB_ID):
                key = f"{JOB_ID}/{file.name}"
                if is_package_key(key):
                    yield StoredFile(key, file.size_bytes, file.changed_at)

    @contextmanager
    def open_package(self, key: str) -> Iterator[IO[bytes] | None]:
        """Open a published package, whose parts are read when they are asked for; None if it was deleted."""
        path = self._container / key
        with self._translate_container_errors():
            try:
                package = path.fs.open(path.path, "rb", block_size=READ_BYTES)
            except FileNotFoundError:
                yield None
                return
            with package:
                yield package

    def delete_package(self, key: str) -> None:
        """Delete a published package, and the folder of its request if that is empty then."""
        target = self._container / key
        with self._translate_container_errors(), suppress(FileNotFoundError):
            target.fs.rm_file(target.path)
            if target.protocol == "file":
                with suppress(OSError):  # not empty
                    Path(target.path).parent.rmdir()

    def _translate_container_errors(self) -> AbstractContextManager[None]:
        return translate_store_errors(f"The reports container {self._container_url}")

    def _existing_connection_id(self) -> str | None:
        try:
            self.get_connection(CONNECTION_ID)
        except AirflowNotFoundException:
            return None
        return CONNECTION_ID
