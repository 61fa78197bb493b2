"""Write the package that the requester gets: a zip of the report, protected by its level (data model, section 6).

The same report always makes the same bytes, unless it is protected. Files of up to 4 GB together are written as zip 2.0, which
every tool opens. Only larger packages are zip64.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from os import SEEK_END
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from isal import isal_zlib
from stream_zip import ZIP_32, ZIP_64, stream_zip

from progress_exhaust.security.encryption import Wrap, encrypted_csv, wrap_by_public_key, wrap_by_text
from progress_exhaust.security.levels import Level, Protection, ZipCipher
from progress_exhaust.security.zip_cipher import EncryptingCompressor, mark_encrypted

BLOCK_BYTES = 1 << 20
MAX_ZIP32_BYTES = 4_000_000_000  # the format ends at 4,294,967,295, and incompressible data grows a little
# Ten times as fast as zlib's usual level 6, and 3 % larger. Level 3 makes other bytes on other processors.
DEFLATE_LEVEL = 2
# The comment of a zip, in ASCII: 7-Zip, WinRAR, WinZip and unzip -z show it. The same level always has the same comment.
BY_THE_TEXT = "This zip has a password: the text that was given with the request.\r\n"
NEEDS_AES = (
    "It is encrypted with AES-256. Windows Explorer and some versions of Finder cannot open it, and report an error.\r\n"
    "Use 7-Zip (7-zip.org) or WinRAR on Windows, Keka or The Unarchiver on a Mac, 7z on Linux.\r\n"
)
ENCRYPTED = (
    "The report in this zip is encrypted: {level}.\r\n"
    "Decrypt it with Sunbird's decryption tool, or with: progress-exhaust open FILE\r\n"
    "You need {key}.\r\n"
)
KEYS = {Level.TEXT_KEY: "the text that was given with the request", Level.PUBLIC_KEY: "the private key of your organisation"}


@dataclass(frozen=True)
class Packed:
    """A file of the report, a csv or workbook, to pack.

    :param name: in the package; the encrypted file has the same name
    """

    name: str
    content: BinaryIO
    size_bytes: int


def write_package(
    reports: Iterable[Packed],
    target: Path,
    day: date,
    protection: Protection,
    *,
    zip_cipher: ZipCipher = ZipCipher.AES_256,
    notes: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Write the report's package, a block of bytes at a time.

    :param reports: the files of the report. Each is encrypted with a key of its own if the level asks for that
    :param zip_cipher: of a zip with a password
    :param notes: texts for the reader, by name. A package whose report is encrypted has none: they would not be encrypted
    """
    level, text, public_key = protection.level, protection.text, protection.public_key
    wrap: Wrap | None = None
    if level is Level.TEXT_KEY and text:
        wrap = wrap_by_text(text)
    elif level is Level.PUBLIC_KEY and public_key:
        wrap = wrap_by_public_key(public_key)
    elif level is not Level.PLAIN and not (level is Level.PASSWORD and text):
        raise ValueError(f"{level} without its key")
    files: dict[str, tuple[Iterable[bytes], int]] = {}
    for report in reports:
        blocks = _blocks(report.content)
        files[report.name] = (encrypted_csv(blocks, level, wrap) if wrap else blocks, report.size_bytes)
    if wrap is None:
        files |= {name: ([note], len(note)) for name, note in notes.items()}
    _write_zip(files, target, day, text if level is Level.PASSWORD else None, zip_cipher)
    _add_comment(target, _comment(level, zip_cipher))


def _blocks(content: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: content.read(BLOCK_BYTES), b"")


def _comment(level: Level, zip_cipher: ZipCipher) -> str:
    """Return how to open the package, for its receiver; empty if every tool opens it."""
    match level:
        case Level.PLAIN:
            return ""
        case Level.PASSWORD:
            return BY_THE_TEXT + ("" if zip_cipher == ZipCipher.ZIP_CRYPTO else NEEDS_AES)
        case _:
            return ENCRYPTED.format(level=level, key=KEYS[level])


def _add_comment(target: Path, comment: str) -> None:
    """Append a comment to a zip that stream_zip wrote. Its last two bytes are the length of its comment, which is empty."""
    data = comment.encode("ascii")
    with target.open("r+b") as package:
        package.seek(-2, SEEK_END)
        package.write(len(data).to_bytes(2, "little") + data)


def _write_zip(
    files: Mapping[str, tuple[Iterable[bytes], int]], target: Path, day: date, password: str | None, zip_cipher: ZipCipher
) -> None:
    """Write a zip of files (blocks of bytes, size in bytes) by name. Each entry has the report's day as its date."""
    dated = datetime(day.year, day.month, day.day)
    # The sum decides: the directory of the zip is after all files.
    method = ZIP_32 if sum(size_bytes for _, size_bytes in files.values()) <= MAX_ZIP32_BYTES else ZIP_64
    entries = [(name, dated, 0o644, method, blocks) for name, (blocks, _) in files.items()]
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
