"""Put a finished package into the reports container, and check that the same bytes have arrived."""

import base64
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath

from progress_exhaust import compat

SLOWEST_BYTES_PER_SECOND = 100_000  # a slower put has failed


def publish_local(package: Path, target: Path, md5: bytes, run_id: str = "") -> None:
    """Copy a package into a local container: copy under another name, check the copy, rename it.

    So no reader sees half a file, even if this process is killed. Two tasks that publish the same package at the same time
    have different copies. Copies that a killed task of the same run has left are deleted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix_of_run = f".{target.name}.{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"
    for old in [path for path in target.parent.iterdir() if path.name.startswith(prefix_of_run)]:
        old.unlink(missing_ok=True)
    partial = target.with_name(f"{prefix_of_run}{uuid.uuid4().hex[:16]}.part")
    try:
        _copy_to_disk(package, partial)
        _check_arrived(partial, md5)
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)  # on a full disk, others need its bytes
        raise


def _copy_to_disk(source: Path, target: Path) -> None:
    """Copy a file, and wait until its bytes are on the disk."""
    with source.open("rb") as opened, target.open("wb") as copy:
        shutil.copyfileobj(opened, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())


def publish_to_store(package: Path, target: ObjectStoragePath, md5: bytes, timeout_seconds: float) -> None:
    """Put a package into a store in one request or multipart upload.

    :param timeout_seconds: how long the store may take to answer, in addition to the time for the bytes
    """
    _put(package, target, md5, longest_put_seconds(package, timeout_seconds))
    _check_arrived(target, md5, _md5_of_store(target))


def longest_put_seconds(package: Path, timeout_seconds: float) -> float:
    """Return how long a put may take: the store's time to answer, and the time for the bytes."""
    return timeout_seconds + package.stat().st_size / SLOWEST_BYTES_PER_SECOND


def _put(package: Path, target: ObjectStoragePath, md5: bytes, timeout_seconds: float) -> None:
    """Put a file, with a checksum if the store verifies it; raises TimeoutError."""
    try:
        compat.put_file(target.fs, package, target.path, timeout_seconds, **_checksum_arguments(target.protocol, md5))
    except TimeoutError:
        size_bytes = package.stat().st_size
        raise TimeoutError(f"no answer in {timeout_seconds:,.0f} s to a file of {size_bytes:,} bytes") from None


def md5_of(file: Path | ObjectStoragePath) -> bytes:
    """Return the MD5 of a file's bytes; stores use MD5 as checksum."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest()


def _checksum_arguments(protocol: str, md5: bytes) -> dict[str, Any]:
    """Return arguments that let a store refuse wrong bytes. S3 ignores them for a multipart upload."""
    arguments_by_protocol: dict[str, dict[str, Any]] = {
        "s3": {"ContentMD5": base64.b64encode(md5).decode()},
        "abfs": {"validate_content": True},
        "abfss": {"validate_content": True},
    }
    return arguments_by_protocol.get(protocol, {})


def _check_arrived(stored: Path | ObjectStoragePath, md5: bytes, md5_of_store: Any = None) -> None:
    """Raise OSError if other bytes arrived: compare the store's MD5; if that does not match, read the bytes back."""
    if md5_of_store not in (md5, base64.b64encode(md5).decode(), f'"{md5.hex()}"') and md5_of(stored) != md5:
        raise OSError(f"The checksum of the stored {stored.name} differs from that of the package")


def _md5_of_store(target: ObjectStoragePath) -> Any:
    """Return the MD5 that the store reports; None or another value after a multipart upload.

    The ETag of S3 is not an MD5 if a KMS key encrypts the object.
    """
    info = target.fs.info(target.path)
    azure_md5 = getattr(info.get("content_settings"), "content_md5", None)
    return info.get("ETag") or info.get("md5Hash") or azure_md5
