"""The package that the requester gets: a zip of the csv, the same bytes for the same csv."""

import shutil
import zipfile
from datetime import date
from pathlib import Path
from typing import BinaryIO


def write_zip(source: BinaryIO, target: Path, file_name: str, day: date) -> None:
    """Zip the csv under its own file name, dated by the report's day and not by the clock."""
    entry = zipfile.ZipInfo(file_name, (day.year, day.month, day.day, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, on whatever system this runs: the bytes must not depend on it
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(target, "w") as package, package.open(entry, "w", force_zip64=True) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)
