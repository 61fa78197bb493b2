"""The store: the reports container, which requesters download from, and the private staging folder.

Both are URLs for Airflow's ObjectStoragePath; where the connection `progress_exhaust_store` exists, it is the login.
docs/stores.md says what each store needs. What goes wrong is told as SetupError (rights, a bucket that is not there) or
as SourceError (anything that another try may mend).
"""

import base64
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowNotFoundException
from airflow.sdk import ObjectStoragePath
from airflow.sdk.bases.hook import BaseHook
from fsspec.asyn import sync
from fsspec.exceptions import FSTimeoutError

from progress_exhaust.errors import ProgressExhaustError, SetupError, SourceError
from progress_exhaust.report.request import JOB_ID, Batch, is_package_key, is_path_part

STANDALONE = "standalone"  # takes the place of a request's id in staging
ANONYMOUS_TIMEOUT_SECONDS = 30
SIGNED_SECONDS = 300
SLOWEST_BYTES_PER_SECOND = 100_000  # of a put that goes on
# What a store's client raises that is no OSError comes from one of these packages.
CLIENTS = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "s3fs"}
WRONG_REGION = ("AuthorizationHeaderMalformed", "PermanentRedirect")  # S3's codes for it
PROVIDERS = {
    "s3": "apache-airflow-providers-amazon[s3fs]",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "gs": "apache-airflow-providers-google and gcsfs",
}


@dataclass(frozen=True)
class StoredFile:
    """A file below one of the two folders."""

    name: str  # below the folder; an empty local folder is a file of no bytes whose name ends in /
    size_bytes: int
    changed_at: datetime


class ReportStoreHook(BaseHook):
    """The two folders.

    :param container: URL of the reports container
    :param staging: URL of the staging folder
    :param timeout_seconds: how long the store may take to answer a put, beside the time that the bytes need
    """

    connection_id = "progress_exhaust_store"

    def __init__(self, *, container: str, staging: str, timeout_seconds: float = 60) -> None:
        super().__init__()
        self._timeout_seconds = timeout_seconds
        login = self._login()
        self._urls = {"container": container, "staging": staging}
        self._container = _folder("reports_container_url", container, login)

    @cached_property
    def _staging(self) -> ObjectStoragePath:
        """The workers' alone: who only signs a link needs none."""
        return _folder("staging_url", self._urls["staging"], self._login(), mode=0o700)

    # Staging

    def batch_folder(self, run_id: str, batch: Batch) -> ObjectStoragePath:
        """Return where the stages of one batch hand their work on."""
        return _below(self.run_folder(run_id), batch.request_id or STANDALONE, batch.batch_id)

    def scan_folder(self, run_id: str, table: str, collection_id: str, batch_id: str) -> ObjectStoragePath:
        """Return where a batch's rows of a table lie, of a scan that all batches of the run share."""
        return _below(self.shared_folder(run_id) / "scans", table, collection_id, batch_id)

    def shared_hierarchy(self, run_id: str, collection_id: str) -> ObjectStoragePath:
        """Return the file of a collection's hierarchy that all batches of the run share."""
        return _below(self.shared_folder(run_id) / "hierarchies", f"{collection_id}.json")

    def shared_folder(self, run_id: str) -> ObjectStoragePath:
        """Return where all lies that batches of a run share."""
        return self.run_folder(run_id) / "_shared"

    def run_folder(self, run_id: str) -> ObjectStoragePath:
        """Return where all of a run's staging lies."""
        if run_id in (".", "..") or "/" in run_id:
            raise SetupError(f"run id {run_id!r} cannot be part of a staging path: start a run with another id")
        return self._staging / run_id

    def staged_files(self) -> Iterator[StoredFile]:
        """Yield what lies in staging; a name's first part is the id of the run that left it."""
        with self.translate_store_errors():
            yield from _files(self._staging)

    @contextmanager
    def translate_store_errors(self) -> Iterator[None]:
        """Tell what goes wrong with staging in the block in our own words."""
        with _telling(f"Staging {self._urls['staging']}"):
            yield

    # The reports container

    def publish(self, package: Path, key: str, run_id: str = "") -> int:
        """Put a finished package into the container in one go, check what has arrived, and return its size, in bytes.

        An object that is there under the key is replaced.
        """
        target, md5 = _below(self._container, *key.split("/")), _md5(package)
        with self._telling_container():
            if target.protocol == "file":
                _move_in(package, Path(target.path), md5, run_id)
            else:
                self._put(target, package, md5)
                _check_arrived(target, md5, _told_md5(target))
        return package.stat().st_size

    def _put(self, target: ObjectStoragePath, package: Path, md5: bytes) -> None:
        """Put the file in bounded time: the client of S3 has no timeout for a store that takes no more bytes."""
        seconds = self._timeout_seconds + package.stat().st_size / SLOWEST_BYTES_PER_SECOND
        fs, checked = target.fs, _checked(target.protocol, md5)
        if not fs.async_impl:  # none of those that the docs name
            fs.put_file(str(package), target.path, **checked)
            return
        try:
            sync(fs.loop, fs._put_file, str(package), target.path, timeout=seconds, **checked)
        except FSTimeoutError:
            raise TimeoutError(f"no answer in {seconds:,.0f} s to a file of {package.stat().st_size:,} bytes") from None

    def holds(self, key: str) -> bool:
        """Tell whether a package is there under a key that a row of job_request names."""
        if not is_package_key(key):
            return False
        with self._telling_container():
            return bool((self._container / key).exists())

    def sign(self, key: str) -> str:
        """Return an address that downloads a package without a login for SIGNED_SECONDS: a secret, for one person's browser.

        Raises SetupError where the container is a folder, which gives no links, or the login cannot sign.
        """
        if not self.holds(key):
            raise SetupError(
                f"The reports container {self._urls['container']} has no package {key!r}: it may be too old to be kept"
            )
        path = self._container / key
        if path.protocol == "file":
            raise SetupError(
                f"The reports container {self._urls['container']} is a folder, which gives no links: {key} lies there"
            )
        with self._telling_container():
            try:
                return str(path.fs.sign(path.path, expiration=SIGNED_SECONDS))
            except (AttributeError, NotImplementedError) as error:
                raise SetupError(
                    f"The login of connection {self.connection_id} cannot sign links ({error}): use one with a key of its own"
                ) from None

    def is_public(self) -> bool:
        """Tell whether anybody may download from the container: by an empty object of its own, and without the login."""
        with self._telling_container():
            return _is_public(self._container / JOB_ID)

    def check_staging_is_private(self, run_id: str) -> None:
        """Raise SetupError where anybody may download from staging, which holds the learners' data in clear.

        It is asked in the folder of the run, with which all goes that a fault may leave of the question. A local one is
        made here: it lets nobody else in, whatever the mode of staging.
        """
        folder = self.run_folder(run_id)
        with self.translate_store_errors():
            if folder.protocol == "file":
                Path(folder.path).mkdir(0o700, exist_ok=True)
            public = _is_public(folder)
        if public:
            raise SetupError(
                f"Staging {self._urls['staging']} lets anybody download from it: make it private; no report needs it open"
            )

    def packages(self) -> Iterator[StoredFile]:
        """Yield the published packages, and what a kill left half done beside them; a name is the key in the container."""
        with self._telling_container():
            for file in _files(self._container / JOB_ID):
                key = f"{JOB_ID}/{file.name}"
                if is_package_key(key):
                    yield StoredFile(key, file.size_bytes, file.changed_at)

    def delete_package(self, key: str) -> None:
        """Remove a published package, and its request's folder where nothing else is in it."""
        target = self._container / key
        with self._telling_container(), suppress(FileNotFoundError):
            target.fs.rm_file(target.path)
            if target.protocol == "file":
                with suppress(OSError):  # not empty
                    Path(target.path).parent.rmdir()

    @contextmanager
    def _telling_container(self) -> Iterator[None]:
        with _telling(f"The reports container {self._urls['container']}"):
            yield

    def _login(self) -> str | None:
        try:
            self.get_connection(self.connection_id)
        except AirflowNotFoundException:
            return None
        return self.connection_id


def write_atomically(path: ObjectStoragePath, data: bytes) -> None:
    """Write a file whole or not at all: its being there says that a piece of work is done."""
    if path.protocol == "file":
        target = Path(path.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")  # two may write the same file at the same time
        try:
            beside.write_bytes(data)
        except OSError:
            beside.unlink(missing_ok=True)  # on a full disk, its bytes are wanted
            raise
        beside.replace(target)
    else:
        path.fs.pipe_file(path.path, data)


def make_folder(folder: ObjectStoragePath) -> None:
    """Make a local folder; a store has none, and must not make a bucket for a name that is spelt wrongly."""
    if folder.protocol == "file":
        Path(folder.path).mkdir(parents=True, exist_ok=True)


def delete_folder(folder: ObjectStoragePath) -> None:
    """Remove a staging folder with all that is in it; one that is gone already is no error."""
    with _telling(f"Staging {folder}"), suppress(FileNotFoundError):
        folder.fs.rm(folder.path, recursive=True)
        # The client of S3 says nothing of what it was not let remove.
        if folder.protocol == "s3" and (left := folder.fs.find(folder.path)):
            raise PermissionError(f"{len(left)} files are left that could not be removed")


def _folder(setting: str, url: str, login: str | None, mode: int = 0o777) -> ObjectStoragePath:
    scheme = url.partition("://")[0]
    try:
        folder = ObjectStoragePath(url, conn_id=login)
        fs = folder.fs
    except (ImportError, ValueError) as error:
        raise SetupError(
            f"Setting {setting}, {url}: Airflow cannot reach {scheme}:// ({error}). Install its provider on every worker "
            f"({PROVIDERS[scheme]}), or set another URL"
        ) from None
    if scheme == "file":
        with _telling(f"Setting {setting}, {url}"):
            Path(folder.path).mkdir(mode, parents=True, exist_ok=True)
    else:
        # What another worker wrote a moment ago must be seen: nothing is answered from an older listing.
        fs.dircache.use_listings_cache = False
        fs.invalidate_cache()
        if scheme == "s3":
            # Before it sends a body, the client asks the store to say "100 Continue", and waits for that without a timeout.
            from botocore.handlers import add_expect_header

            fs.session.unregister("before-call.s3", add_expect_header)
    return folder


def _below(folder: ObjectStoragePath, *parts: str) -> ObjectStoragePath:
    """Join path parts that come from data: none may lead elsewhere."""
    for part in parts:
        if not is_path_part(part):
            raise SetupError(f"{part!r} cannot be part of a path")
        folder = folder / part
    return folder


def _move_in(package: Path, target: Path, md5: bytes, run_id: str = "") -> None:
    """Copy beside the target, check the copy, then rename: nobody sees half a file under its name, whenever this is killed.

    The copy has a name of its own: whoever publishes the same package at the same time has another. What a kill left of
    an earlier one of the same run goes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    of_run = f".{target.name}.{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"
    for left in [path for path in target.parent.iterdir() if path.name.startswith(of_run)]:
        left.unlink(missing_ok=True)
    beside = target.with_name(f"{of_run}{uuid.uuid4().hex[:16]}.part")
    try:
        with package.open("rb") as source, beside.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        _check_arrived(beside, md5)
        beside.replace(target)
    except OSError:
        beside.unlink(missing_ok=True)  # on a full disk, its bytes are wanted
        raise


def _checked(protocol: str, md5: bytes) -> dict[str, Any]:
    """Return what makes a store refuse bytes that are not the package's; S3 looks at it where it gets them in one piece."""
    return {
        "s3": {"ContentMD5": base64.b64encode(md5).decode()},
        "abfs": {"validate_content": True},
        "abfss": {"validate_content": True},
    }.get(protocol, {})


def _check_arrived(stored: Path | ObjectStoragePath, md5: bytes, told: Any = None) -> None:
    """Raise OSError where other bytes arrived than were put: by the MD5 that the store tells of them, else by reading them."""
    if told not in (md5, base64.b64encode(md5).decode(), f'"{md5.hex()}"') and _md5(stored) != md5:
        raise OSError(f"{stored.name} has another checksum there than here")


def _told_md5(target: ObjectStoragePath) -> Any:
    """Return a package's MD5 as its store tells it.

    None, or something else, where the package arrived in parts; S3's ETag is no MD5 where a KMS key encrypts, either.
    """
    info = target.fs.info(target.path)
    of_azure = getattr(info.get("content_settings"), "content_md5", None)
    return info.get("ETag") or info.get("md5Hash") or of_azure


def _md5(file: Path | ObjectStoragePath) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest()


def _is_public(folder: ObjectStoragePath) -> bool:
    """Ask for an object without any login. It is empty and there for this question alone: no other is sure to be there."""
    if folder.protocol == "file":
        return False
    import requests

    probe = folder / f".anybody-{uuid.uuid4().hex}"
    probe.fs.pipe_file(probe.path, b"")
    try:
        with requests.get(_plain_url(probe), timeout=ANONYMOUS_TIMEOUT_SECONDS, stream=True) as answer:  # whatever it holds
            pass
    except requests.RequestException as error:
        raise SourceError(f"{folder} does not say whether anybody may read it: {type(error).__name__}") from None
    finally:
        probe.fs.rm_file(probe.path)
    if answer.status_code >= 500:
        raise SourceError(f"{folder} does not say whether anybody may read it: HTTP {answer.status_code}")
    return answer.ok


def _plain_url(path: ObjectStoragePath) -> str:
    """Return the address that an object has for a client without a login."""
    if path.protocol == "s3":
        return str(path.fs.url(path.path)).partition("?")[0]
    if path.protocol == "gs":
        return str(path.fs.url(path.path))
    container, _, name = path.path.partition("/")
    return str(path.fs.service_client.get_blob_client(container, name).url).partition("?")[0]


def _files(folder: ObjectStoragePath) -> Iterator[StoredFile]:
    """Yield the files below a folder; no link is followed, and none is a file."""
    if folder.protocol == "file":
        yield from _local_files(Path(folder.path))
        return
    for name, info in folder.fs.find(folder.path, detail=True).items():
        if info["type"] == "file" and not name.endswith("/"):
            yield StoredFile(name.removeprefix(f"{folder.path}/"), int(info["size"]), _changed_at(info))


def _local_files(top: Path) -> Iterator[StoredFile]:
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
    """Return when a store's object was written, as each of the clients calls it."""
    written = next(info[name] for name in ("LastModified", "last_modified", "mtime", "updated") if info.get(name))
    moment = datetime.fromisoformat(written) if isinstance(written, str) else written
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def _telling(where: str) -> Iterator[None]:
    try:
        yield
    except ProgressExhaustError:
        raise
    except Exception as error:
        told = _in_our_words(where, error)
        if told is None:
            raise
        raise told from None


def _in_our_words(where: str, error: BaseException) -> ProgressExhaustError | None:
    """Tell a store's error from any other: None for one that is not the store's."""
    chain = [error]  # clients wrap their own errors: any of them may say what it is, the first one says most
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    if not any(isinstance(one, OSError) or type(one).__module__.partition(".")[0] in CLIENTS for one in chain):
        return None
    words = (str(chain[-1]).strip().splitlines() or [""])[0].rstrip(".")
    said = f"{where}: {type(chain[-1]).__name__}: {words}"
    statuses = {getattr(one, "status_code", None) or getattr(one, "code", None) for one in chain}
    if any(isinstance(one, PermissionError) for one in chain) or statuses & {401, 403} or words.startswith("Forbidden"):
        return SetupError(
            f"{said}. Let the login of connection {ReportStoreHook.connection_id} (for a local folder: the workers' user) "
            "list, read, write and delete there"
        )
    if any(isinstance(one, FileNotFoundError) for one in chain) or 404 in statuses:
        return SetupError(
            f"{said}. Make the bucket, container or folder that is missing, or mend the setting that names it; where only a "
            "file of an earlier stage is missing, clear that stage"
        )
    if any(code in words for code in WRONG_REGION):
        return SetupError(f"{said}. Set region_name in the extra of connection {ReportStoreHook.connection_id}")
    return SourceError(said if "file://" in where else f"{said} (connection {ReportStoreHook.connection_id})")
