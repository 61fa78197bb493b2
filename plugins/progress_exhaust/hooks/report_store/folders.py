"""Folders of a store: open the two that the settings name, and join paths below them."""

from pathlib import Path

from airflow.sdk import ObjectStoragePath

from progress_exhaust import compat
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.report_store.store_errors import translate_store_errors
from progress_exhaust.report.request import is_path_part

PROVIDERS = {
    "s3": "apache-airflow-providers-amazon[s3fs]",
    "abfs": "apache-airflow-providers-microsoft-azure",
    "abfss": "apache-airflow-providers-microsoft-azure",
    "gs": "apache-airflow-providers-google and gcsfs",
}


def open_folder(setting: str, url: str, connection_id: str | None, mode: int = 0o777) -> ObjectStoragePath:
    """Return a folder that a setting names; a local folder is made. Raises SetupError if its provider is missing.

    :param connection_id: the login; None if there is no such connection
    :param mode: of a local folder
    """
    scheme = url.partition("://")[0]
    try:
        folder = ObjectStoragePath(url, conn_id=connection_id)
        fs = folder.fs
    except (ImportError, ValueError) as error:
        raise SetupError(
            f"Setting {setting}, {url}: Airflow cannot reach {scheme}:// ({error}). Install its provider on every worker "
            f"({PROVIDERS[scheme]}), or set another URL"
        ) from None
    if scheme == "file":
        with translate_store_errors(f"Setting {setting}, {url}"):
            Path(folder.path).mkdir(mode, parents=True, exist_ok=True)
        return folder
    compat.disable_listing_cache(fs)  # this process must see at once what another worker writes
    if scheme == "s3":
        compat.send_bodies_at_once(fs)
    return folder


def join_path(folder: ObjectStoragePath, *parts: str) -> ObjectStoragePath:
    """Join path parts that come from data; raises SetupError for a part that would lead to another folder."""
    for part in parts:
        if not is_path_part(part):
            raise SetupError(f"{part!r} cannot be part of a path")
        folder = folder / part
    return folder
