"""Open a report as it is stored: a csv or workbook, encrypted or not, or a zip of such files. It reads a block at a time."""

import struct
import zipfile
import zlib
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pyzipper import AESZipFile, BadZipFile

from progress_exhaust.errors import InputError
from progress_exhaust.report.request import COLUMNS_FILE
from progress_exhaust.security.decryption import Unwrap, decrypted_csv, unwrap_by_private_key, unwrap_by_text
from progress_exhaust.security.levels import Level, ZipCipher

READ_BYTES = 1 << 20
ENCRYPTED_LEVELS = (Level.TEXT_KEY, Level.PUBLIC_KEY)
WORKBOOK_ENTRY = "[Content_Types].xml"  # each Excel workbook is a zip that has this file
NOT_PROTECTED = "not protected"
MAX_FILES = 100  # of a package: a report has four at most
# To unpack other kinds takes as much memory as the file says, up to gigabytes.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What the libraries raise for damaged data. With a wrong key, the data look damaged, too.
DAMAGED = (
    BadZipFile,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
)

Opened = tuple[Iterator[bytes], str]  # the clear blocks of a file, and how it is protected


@dataclass(frozen=True)
class Entry:
    """A file of a report: of a package, or the only one.

    :param kind: csv or xlsx of the report, the description of its columns, or another file
    :param size_bytes: of the unpacked file, as its package says
    :param open: opens it while its package is open
    :param is_clear: it is neither packed nor encrypted
    """

    name: str
    kind: Literal["csv", "xlsx", "columns", "other"]
    size_bytes: int
    open: Callable[[], AbstractContextManager[Opened]]
    is_clear: bool = False


@dataclass(frozen=True)
class ReportFile:
    """A file to read, and the key that opens it.

    :param name: how messages name the file, such as OLD or NEW
    :param key: a password, the requester's text, or an RSA private key in PEM form
    :param key_source: how a user gives the key, for messages
    """

    name: str
    path: Path
    key: str | None = field(default=None, repr=False)
    key_source: str = field(kw_only=True)

    @contextmanager
    def entries(self) -> Iterator[list[Entry]]:
        """Yield the files of a package, or the file itself if it is not one.

        Raises InputError if the file cannot be read, also while the blocks of an entry are read.
        """
        with ExitStack() as stack:
            with self._translated():
                file = stack.enter_context(self.path.open("rb"))
                package = stack.enter_context(AESZipFile(file)) if file.peek(2)[:2] == b"PK" else None
            if package:
                names = package.namelist()
                if WORKBOOK_ENTRY in names:
                    file.seek(0)
                    yield [self._entry(file, "xlsx")]
                    return
                if len(names) > MAX_FILES:
                    raise InputError(f"{self.name} is a zip of {len(names):,} files. It is not a report")
                yield [
                    Entry(one.filename, _kind(one.filename, names), one.file_size, partial(self._open_packed, package, one))
                    for one in package.infolist()
                ]
            elif self.path.suffix.lower() == ".zip":
                raise InputError(f"{self.name} is not a zip, although its name ends with .zip")
            else:
                yield [self._entry(file, "xlsx" if self.path.suffix.lower() == ".xlsx" else "csv")]

    @contextmanager
    def open_csv(self) -> Iterator[Opened]:
        """Yield the blocks of the clear csv, and how it is protected. Raises InputError as `entries` does."""
        with self.entries() as entries, self._only_csv(entries).open() as opened:
            yield opened

    def only(self, entries: Sequence[Entry], kind: Literal["csv", "xlsx"]) -> Entry | None:
        """Return the entry of this kind, or None. Raises InputError if there are several."""
        found = [entry for entry in entries if entry.kind == kind]
        if len(found) > 1:
            raise InputError(f"{self.name} is a zip with {len(found)} files of type {kind}. Unzip it, and use one at a time")
        return found[0] if found else None

    def _only_csv(self, entries: Sequence[Entry]) -> Entry:
        found = self.only(entries, "csv")
        if not found and any(entry.kind == "xlsx" for entry in entries):
            raise InputError(f"{self.name} is an Excel workbook. Make the report as csv: set the Param output_format")
        if not found:
            raise InputError(f"{self.name} is a zip without a csv")
        return found

    def _entry(self, file: BufferedReader, kind: Literal["csv", "xlsx"]) -> Entry:
        @contextmanager
        def opened() -> Iterator[Opened]:
            yield self._decrypted(file, kind, NOT_PROTECTED)

        return Entry(self.path.name, kind, self.path.stat().st_size, opened, is_clear=_level(file) is None)

    @contextmanager
    def _open_packed(self, package: AESZipFile, entry: Any) -> Iterator[Opened]:
        protection, password = str(Level.PLAIN), None
        if entry.flag_bits & 1:
            cipher = ZipCipher.ZIP_CRYPTO if entry.wz_aes_version is None else f"AES-{64 + 64 * entry.wz_aes_strength}"
            protection, password = f"{Level.PASSWORD}, {cipher}", self._needed_key("a password").encode()
        if entry.compress_type not in METHODS:  # for example what Windows does with large files
            raise InputError(f"{self.name} is packed in a way that is not read here. Unzip it with 7-Zip")
        with ExitStack() as stack:
            with self._translated():
                try:
                    content = stack.enter_context(package.open(entry, pwd=password))
                except NotImplementedError:
                    raise
                except RuntimeError:
                    raise InputError(f"The password of {self.name} is wrong") from None
                opened = self._decrypted(content, _kind(entry.filename, package.namelist()), protection)
            yield opened

    def _decrypted(self, content: BufferedReader, kind: str, protection: str) -> Opened:
        """Return the blocks of a file, and how it is protected: by its encryption, or else by the given protection."""
        level = _level(content)
        if level is None:
            return self._checked(iter(lambda: content.read(READ_BYTES), b"")), protection
        content.readline()
        blocks = decrypted_csv(content, self._unwrap(level))
        return self._checked(self._with_right_key(blocks, kind)), level

    def _with_right_key(self, blocks: Iterator[bytes], kind: str) -> Iterator[bytes]:
        """Yield the blocks. A wrong key sometimes decrypts a file to random bytes: then raise InputError."""
        first = next(filter(None, blocks), b"")
        if kind == "xlsx" and not first.startswith(b"PK"):
            raise self._damaged()
        if kind != "xlsx":
            getincrementaldecoder("utf-8")().decode(first)
        yield from chain([first], blocks)

    def _unwrap(self, level: Level) -> Unwrap:
        if level is Level.TEXT_KEY:
            return unwrap_by_text(self._needed_key("the text of its request"))
        try:
            return unwrap_by_private_key(self._needed_key("the private key of the org").encode())
        except ValueError:
            raise InputError(
                f"The key of {self.name} is not an RSA private key in PEM form without a passphrase, and {level} needs one"
            ) from None

    def _needed_key(self, what: str) -> str:
        if not self.key:
            raise InputError(f"{self.name} needs {what}. Give it by {self.key_source}")
        return self.key

    def _checked(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        with self._translated():
            yield from blocks

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise as InputError what the libraries raise for a file that is damaged or cannot be read."""
        try:
            yield
        except DAMAGED:
            raise self._damaged() from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> InputError:
        return InputError(f"{self.name} cannot be read: {error.strerror or type(error).__name__}")

    def _damaged(self) -> InputError:
        key = ", or its key is not the right one" if self.key else ""
        return InputError(f"{self.name} cannot be read to its end: it is damaged{key}")


def _level(content: BufferedReader) -> Level | None:
    """Return the level of a file that is encrypted in the platform's own format; its first line has it."""
    first_bytes = content.peek(64)
    return next((level for level in ENCRYPTED_LEVELS if first_bytes.startswith(f"{level}\n".encode())), None)


def _kind(name: str, names: Sequence[str]) -> Literal["csv", "xlsx", "columns", "other"]:
    """Return what a file of a package is, by its name and the names of all files of the package."""
    lower = name.lower()
    if lower.endswith(".xlsx"):
        return "xlsx"
    if not lower.endswith(".csv"):
        return "other"
    batch_id, _, day = name.removeprefix(COLUMNS_FILE)[: -len(".csv")].rpartition("_")
    is_description = name.startswith(COLUMNS_FILE) and any(other.startswith(f"{batch_id}_progress_{day}.") for other in names)
    return "columns" if is_description else "csv"


def read_key(file: Path, *, of: str = "") -> str:
    """Return the key in a file: a password, a text, or a private key in PEM form, without the last line end.

    Raises InputError if it cannot be read.

    :param of: which file the key opens, for the message
    """
    try:
        return file.read_text("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        which = f" of {of}" if of else ""
        raise InputError(f"The key file{which} cannot be read: {getattr(error, 'strerror', 'it is not UTF-8')}") from None
