"""The package that the requester gets: a zip of the csv, protected as its level says (data model, section 6).

A plain one is the same bytes for the same csv. An entry of up to 4 GB is written as zip 2.0, which every tool opens; only a
larger one is zip64.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO

from isal import isal_zlib
from stream_zip import ZIP_32, ZIP_64, stream_zip

from progress_exhaust.report.encryption import encrypted_csv, wrap_by_public_key, wrap_by_text
from progress_exhaust.report.security import Level, Protection
from progress_exhaust.report.summary_text import SUMMARY_FILE
from progress_exhaust.report.zip_cipher import EncryptingCompressor, mark_encrypted

CHUNK_BYTES = 1 << 20
MOST_ZIP32_BYTES = 4_000_000_000  # the format ends at 4,294,967,295: what does not compress grows a little
# Ten times as fast as zlib's usual level 6 and 3 % larger. The same bytes on every processor, as its level 3 is not.
DEFLATE_LEVEL = 2


def write_package(
    csv: BinaryIO,
    target: Path,
    file_name: str,
    day: date,
    protection: Protection,
    *,
    size_bytes: int,
    zip_cipher: str = "AES-256",
    summary: bytes | None = None,
) -> None:
    """Write the csv's package, a chunk at a time.

    :param file_name: of the csv; an encrypted one keeps it
    :param size_bytes: of the csv
    :param summary: a text to put beside the csv; left out where only the csv is encrypted, and the text would not be
    :param zip_cipher: AES-256, or ZipCrypto for tools that know no other
    """
    chunks: Iterator[bytes] = iter(lambda: csv.read(CHUNK_BYTES), b"")
    level, text, public_key = protection.level, protection.text, protection.public_key
    password = None
    if level is Level.TEXT_KEY and text:
        chunks = encrypted_csv(chunks, level, wrap_by_text(text))
    elif level is Level.PUBLIC_KEY and public_key:
        chunks = encrypted_csv(chunks, level, wrap_by_public_key(public_key))
    elif level is Level.PASSWORD and text:
        password = text
    elif level is not Level.PLAIN:
        raise ValueError(f"{level} without its key")
    files = {file_name: (chunks, size_bytes)}
    if summary is not None and level in (Level.PLAIN, Level.PASSWORD):
        files[SUMMARY_FILE] = (iter([summary]), len(summary))
    _write_zip(files, target, day, password, zip_cipher)


def _write_zip(
    files: Mapping[str, tuple[Iterable[bytes], int]], target: Path, day: date, password: str | None, zip_cipher: str
) -> None:
    """Zip files (chunks, and bytes in all) under their names, dated by the report's day and not by the clock."""
    dated = datetime(day.year, day.month, day.day)
    entries = [
        (name, dated, 0o644, ZIP_32 if size_bytes <= MOST_ZIP32_BYTES else ZIP_64, chunks)
        for name, (chunks, size_bytes) in files.items()
    ]
    by_old_cipher = password if zip_cipher == "ZipCrypto" else None
    by_aes = None if by_old_cipher else password

    def compressor() -> Any:
        deflate = isal_zlib.compressobj(DEFLATE_LEVEL, wbits=-15)
        return EncryptingCompressor(deflate, by_old_cipher.encode()) if by_old_cipher else deflate

    with target.open("wb") as package:
        package.writelines(
            stream_zip(
                entries,
                chunk_size=CHUNK_BYTES,
                get_compressobj=compressor,
                extended_timestamps=False,  # they would hang on the machine's time zone
                # It takes a letter for a byte: these are the bytes of UTF-8.
                password=by_aes and by_aes.encode().decode("latin-1"),
            )
        )
    if by_old_cipher:
        mark_encrypted(target)
