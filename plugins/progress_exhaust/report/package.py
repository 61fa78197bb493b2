"""Write the package that the requester gets: a zip of the report, protected by its level (data model, section 6).

The same report always makes the same bytes, unless it is protected. Entries of up to 4 GB are written as zip 2.0, which every
tool opens. Only larger ones are zip64.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO

from isal import isal_zlib
from stream_zip import ZIP_32, ZIP_64, stream_zip

from progress_exhaust.report.summary_text import SUMMARY_FILE
from progress_exhaust.security.encryption import encrypted_csv, wrap_by_public_key, wrap_by_text
from progress_exhaust.security.levels import Level, Protection, ZipCipher
from progress_exhaust.security.zip_cipher import EncryptingCompressor, mark_encrypted

BLOCK_BYTES = 1 << 20
MAX_ZIP32_BYTES = 4_000_000_000  # the format ends at 4,294,967,295, and incompressible data grows a little
# Ten times as fast as zlib's usual level 6, and 3 % larger. Level 3 makes other bytes on other processors.
DEFLATE_LEVEL = 2


def write_package(
    csv: BinaryIO,
    target: Path,
    file_name: str,
    day: date,
    protection: Protection,
    *,
    size_bytes: int,
    zip_cipher: ZipCipher = ZipCipher.AES_256,
    summary: bytes | None = None,
) -> None:
    """Write the report's package, a block of bytes at a time.

    :param csv: the report, a csv or workbook
    :param file_name: of the report; the encrypted file has the same name
    :param size_bytes: of the report
    :param zip_cipher: of a zip with a password
    :param summary: a text to add to the package. A package whose report is encrypted has no summary: it would not be encrypted
    """
    blocks: Iterator[bytes] = iter(lambda: csv.read(BLOCK_BYTES), b"")
    level, text, public_key = protection.level, protection.text, protection.public_key
    password = None
    if level is Level.TEXT_KEY and text:
        blocks = encrypted_csv(blocks, level, wrap_by_text(text))
    elif level is Level.PUBLIC_KEY and public_key:
        blocks = encrypted_csv(blocks, level, wrap_by_public_key(public_key))
    elif level is Level.PASSWORD and text:
        password = text
    elif level is not Level.PLAIN:
        raise ValueError(f"{level} without its key")
    files = {file_name: (blocks, size_bytes)}
    if summary is not None and level in (Level.PLAIN, Level.PASSWORD):
        files[SUMMARY_FILE] = (iter([summary]), len(summary))
    _write_zip(files, target, day, password, zip_cipher)


def _write_zip(
    files: Mapping[str, tuple[Iterable[bytes], int]], target: Path, day: date, password: str | None, zip_cipher: ZipCipher
) -> None:
    """Write a zip of files (blocks of bytes, size in bytes) by name. Each entry has the report's day as its date."""
    dated = datetime(day.year, day.month, day.day)
    entries = [
        (name, dated, 0o644, ZIP_32 if size_bytes <= MAX_ZIP32_BYTES else ZIP_64, blocks)
        for name, (blocks, size_bytes) in files.items()
    ]
    zip_crypto_password = password if zip_cipher == ZipCipher.ZIP_CRYPTO else None
    aes_password = None if zip_crypto_password else password

    def compressor() -> Any:  # stream_zip names zlib's private type
        deflate = isal_zlib.compressobj(DEFLATE_LEVEL, wbits=-15)
        return EncryptingCompressor(deflate, zip_crypto_password.encode()) if zip_crypto_password else deflate

    with target.open("wb") as package:
        package.writelines(
            stream_zip(
                entries,
                chunk_size=BLOCK_BYTES,
                get_compressobj=compressor,
                extended_timestamps=False,  # they depend on the machine's time zone
                # stream_zip encodes a password as latin-1: this gives it the bytes of UTF-8.
                password=aes_password and aes_password.encode().decode("latin-1"),
            )
        )
    if zip_crypto_password:
        mark_encrypted(target)
