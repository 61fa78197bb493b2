"""Whether a package contains a learner. Every entry is read, a block at a time, whatever its layout, form or level."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import IO
from zipfile import ZipFile, ZipInfo

from pyzipper import AESZipFile

from progress_exhaust.reading.report_file import DAMAGED, ENCRYPTED_LEVELS, METHODS, READ_BYTES
from progress_exhaust.security.decryption import Unwrap, decrypted_csv, unwrap_by_private_key, unwrap_by_text
from progress_exhaust.security.levels import Level


class Content(StrEnum):
    """What a package is to a learner. The first one that an entry has decides."""

    HAS_LEARNER = "has_learner"
    PROTECTED = "protected"  # no key opens it
    DAMAGED = "damaged"  # or not finished
    WITHOUT_LEARNER = "without_learner"


class LearnerSearch:
    """Looks for the id of one learner.

    :param user_id: letters, digits, '-', '_' and '.' only
    :param keys: passwords, requesters' texts, and RSA private keys in PEM form. Each is tried on each protected package
    """

    def __init__(self, user_id: str, keys: Sequence[str]) -> None:
        # A longer id may contain this one.
        self._id = re.compile(rb"(?<=[^0-9A-Za-z])" + re.escape(user_id.encode()) + rb"(?=[^0-9A-Za-z])")
        self._overlap_bytes = len(user_id.encode()) + 1
        self._keys = keys

    def content(self, package: IO[bytes]) -> Content:
        """Return what a package is to the learner. Raises OSError if its bytes cannot be read."""
        try:
            with AESZipFile(package) as opened:
                found = {self._content_of_entry(opened, entry) for entry in opened.infolist()}
        except DAMAGED:
            return Content.DAMAGED
        return next((one for one in Content if one in found), Content.DAMAGED)

    def _content_of_entry(self, package: AESZipFile, entry: ZipInfo) -> Content:
        _check_method(entry)
        if entry.flag_bits & 1:
            return self._try_keys(package, entry, [(key, None) for key in self._keys])
        with package.open(entry) as content:
            first_bytes = content.peek(64)
        level = next((level for level in ENCRYPTED_LEVELS if first_bytes.startswith(f"{level}\n".encode())), None)
        if level:
            return self._try_keys(package, entry, [(None, unwrap) for key in self._keys if (unwrap := _unwrap(level, key))])
        with package.open(entry) as content:
            return self._content_of(_blocks(content), entry.filename)

    def _try_keys(self, package: AESZipFile, entry: ZipInfo, keys: Sequence[tuple[str | None, Unwrap | None]]) -> Content:
        """Return what an entry is with the first key that opens it: a password, or a function that decrypts the file key."""
        for password, unwrap in keys:
            try:
                with package.open(entry, pwd=password and password.encode()) as content:
                    if unwrap is None:
                        return self._content_of(_blocks(content), entry.filename)
                    content.readline()
                    return self._content_of(decrypted_csv(content, unwrap), entry.filename)
            except DAMAGED:  # as it looks with a wrong key
                continue
        return Content.PROTECTED

    def _content_of(self, blocks: Iterator[bytes], name: str) -> Content:
        if not name.lower().endswith(".xlsx"):
            return _content_if(self._is_in(blocks))
        with tempfile.TemporaryFile() as workbook:  # a zip, which cannot be read as a stream
            workbook.writelines(blocks)
            with ZipFile(workbook) as parts:
                return _content_if(any(self._is_in_part(parts, part) for part in parts.infolist()))

    def _is_in_part(self, parts: ZipFile, entry: ZipInfo) -> bool:
        _check_method(entry)
        with parts.open(entry) as part:
            return self._is_in(_blocks(part))

    def _is_in(self, blocks: Iterator[bytes]) -> bool:
        text = b"\n"
        for block in blocks:
            text = text[-self._overlap_bytes :] + block
            if self._id.search(text):
                return True
        return self._id.search(text[-self._overlap_bytes :] + b"\n") is not None


def _check_method(entry: ZipInfo) -> None:
    if entry.compress_type not in METHODS:
        raise NotImplementedError  # as the library does for a method that it does not know


def _content_if(is_in: bool) -> Content:
    return Content.HAS_LEARNER if is_in else Content.WITHOUT_LEARNER


def _blocks(content: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: content.read(READ_BYTES), b"")


def _unwrap(level: Level, key: str) -> Unwrap | None:
    """Return the function that decrypts a file key; None if this key is of another kind."""
    if level is Level.TEXT_KEY:
        return unwrap_by_text(key)
    try:
        return unwrap_by_private_key(key.encode())
    except ValueError:
        return None
