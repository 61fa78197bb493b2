"""Find out whether anonymous users can download from a folder of a store."""

import uuid

import requests
from airflow.sdk import ObjectStoragePath

from progress_exhaust import compat
from progress_exhaust.errors import SourceError

TIMEOUT_SECONDS = 30


def is_public(folder: ObjectStoragePath) -> bool:
    """Tell whether a request without login can download from a folder. A local folder is never public.

    The request is for a new, empty object, because no other object is certain to exist. It is deleted afterwards.
    """
    if folder.protocol == "file":
        return False
    probe = folder / f".public-access-{uuid.uuid4().hex}"
    probe.fs.pipe_file(probe.path, b"")
    try:
        with requests.get(anonymous_url(probe), timeout=TIMEOUT_SECONDS, stream=True) as answer:  # the body is not read
            pass
    except requests.RequestException as error:
        raise SourceError(f"{folder}: cannot find out whether it is public: {type(error).__name__}") from None
    finally:
        probe.fs.rm_file(probe.path)
    if answer.status_code >= 500:
        raise SourceError(f"{folder}: cannot find out whether it is public: HTTP {answer.status_code}")
    return answer.ok


def anonymous_url(path: ObjectStoragePath) -> str:
    """Return the URL of an object for a client without login."""
    if path.protocol == "s3":
        return str(path.fs.url(path.path)).partition("?")[0]
    if path.protocol == "gs":
        return str(path.fs.url(path.path))
    return compat.azure_blob_url(path.fs, path.path).partition("?")[0]
