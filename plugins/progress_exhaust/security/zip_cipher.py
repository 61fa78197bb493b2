"""Encrypt the entries of a zip with the cipher of zip 2.0, "ZipCrypto" (PKWARE's APPNOTE, 6.1).

It is for old tools that do not support AES. It is broken: do not rely on it.
"""

import os
import zlib
from pathlib import Path
from typing import Protocol
from zipfile import ZipFile

HEADER_BYTES = 12
FLAGS_AT, FLAGS_IN_DIRECTORY_AT = 6, 8  # in the local header of an entry, and in the directory
DIRECTORY_ENTRY_BYTES = 46  # before the entry's name, extra field and comment
ENCRYPTED = 1  # the flag

# One step of CRC-32, by byte.
_CRC = [zlib.crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]


class Compressor(Protocol):
    """A compressor, with the methods that stream_zip calls."""

    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


class EncryptingCompressor:
    """Compress and then encrypt, byte by byte in Python: a few megabytes a second.

    :param compressor: compresses the data
    :param password: of the zip
    """

    def __init__(self, compressor: Compressor, password: bytes) -> None:
        self._compressor = compressor
        self._keys = (0x12345678, 0x23456789, 0x34567890)
        self._encrypt(password)
        # Tools detect a wrong password by the last byte, the hour of the entry's date. Our entries have hour 0.
        self._header = self._encrypt(os.urandom(HEADER_BYTES - 1) + b"\0")

    def compress(self, data: bytes) -> bytes:
        """Return the data that is ready, encrypted."""
        return self._with_header(self._compressor.compress(data))

    def flush(self) -> bytes:
        """Return the remaining data, encrypted."""
        return self._with_header(self._compressor.flush())

    def _with_header(self, data: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + self._encrypt(data)

    def _encrypt(self, data: bytes) -> bytes:
        crc, (first, second, third) = _CRC, self._keys
        out = bytearray(data)
        for place, byte in enumerate(data):
            mask = third | 2
            out[place] = byte ^ (mask * (mask ^ 1) >> 8 & 0xFF)
            first = first >> 8 ^ crc[(first ^ byte) & 0xFF]
            second = ((second + (first & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
            third = third >> 8 ^ crc[(third ^ second >> 24) & 0xFF]
        self._keys = first, second, third
        return bytes(out)


def mark_encrypted(package: Path) -> None:
    """Set the flag "encrypted" in all headers of a zip."""
    places = []
    with ZipFile(package) as written:
        in_directory = written.start_dir
        for entry in written.infolist():
            places += [entry.header_offset + FLAGS_AT, in_directory + FLAGS_IN_DIRECTORY_AT]
            in_directory += DIRECTORY_ENTRY_BYTES + len(entry.filename.encode()) + len(entry.extra) + len(entry.comment)
    with package.open("r+b") as file:
        for place in places:
            file.seek(place)
            flags = file.read(1)[0]
            file.seek(place)
            file.write(bytes([flags | ENCRYPTED]))
