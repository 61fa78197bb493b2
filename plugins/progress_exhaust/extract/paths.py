"""The type of a path: on the store in a run, on local disk in scratch folders and tests."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

AnyPath: TypeAlias = "Path | ObjectStoragePath"
