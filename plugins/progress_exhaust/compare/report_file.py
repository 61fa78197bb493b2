"""Open a report as it is stored: a csv, a csv that is encrypted, or a zip of one of them. It reads a block at a time."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from pyzipper import AESZipFile, BadZipFile

from progress_exhaust.errors import InputError
from progress_exhaust.security.decryption import Unwrap, decrypted_csv, unwrap_by_private_key, unwrap_by_text
from progress_exhaust.security.levels import Level, ZipCipher

READ_BYTES = 1 << 20
ENCRYPTED_LEVELS = (Level.TEXT_KEY, Level.PUBLIC_KEY)
WORKBOOK_ENTRY = "[Content_Types].xml"  # each Excel workbook is a zip that has this file
# What the libraries raise for damaged data. With a wrong key, the data look damaged, too.
DAMAGED = (BadZipFile, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class ReportFile:
    """A file to read, and the key that opens it.

    :param name: how messages name the file, OLD or NEW
    :param key: a password, the requester's text, or an RSA private key in PEM form
    """

    name: str
    path: Path
    key: str | None = field(default=None, repr=False)

    @contextmanager
    def open(self) -> Iterator[tuple[Iterator[bytes], str]]:
        """Yield the blocks of the clear csv, and how the file is protected.

        Raises InputError if the file cannot be read, also while its blocks are read.
        """
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            with file:
                if file.peek(2)[:2] == b"PK":
                    with AESZipFile(file) as package, self._open_csv(package) as (csv, protection):
                        blocks, level = self._decrypted(csv)
                        yield self._checked(blocks), level or protection
                elif self.path.suffix.lower() == ".zip":
                    raise InputError(f"{self.name} is not a zip, although its name ends with .zip")
                else:
                    blocks, level = self._decrypted(file)
                    yield self._checked(blocks), level or "not protected"
        except (BadZipFile, zlib.error, EOFError):
            raise self._damaged() from None

    @contextmanager
    def _open_csv(self, package: AESZipFile) -> Iterator[tuple[BufferedReader, str]]:
        """Open the only csv of a zip."""
        names = package.namelist()
        found = [name for name in names if name.lower().endswith(".csv")]
        if not found and (WORKBOOK_ENTRY in names or any(name.lower().endswith(".xlsx") for name in names)):
            raise InputError(f"{self.name} is an Excel workbook. Make the report as csv: set the Param output_format")
        if not found:
            raise InputError(f"{self.name} is a zip without a csv")
        if len(found) > 1:
            raise InputError(f"{self.name} is a zip with {len(found)} csv files. Unzip it, and compare one csv at a time")
        entry = package.getinfo(found[0])
        protection, password = str(Level.PLAIN), None
        if entry.flag_bits & 1:
            cipher = ZipCipher.ZIP_CRYPTO if entry.wz_aes_version is None else f"AES-{64 + 64 * entry.wz_aes_strength}"
            protection, password = f"{Level.PASSWORD}, {cipher}", self._needed_key("a password").encode()
        try:
            csv = package.open(entry, pwd=password)
        except RuntimeError:
            raise InputError(f"The password of {self.name} is wrong") from None
        with csv:
            yield csv, protection

    def _decrypted(self, csv: BufferedReader) -> tuple[Iterator[bytes], str]:
        """Return the blocks of a csv, and the level if it is encrypted."""
        first_bytes = csv.peek(64)
        for level in ENCRYPTED_LEVELS:
            if first_bytes.startswith(f"{level}\n".encode()):
                csv.readline()
                return decrypted_csv(csv, self._unwrap(level)), level
        return iter(lambda: csv.read(READ_BYTES), b""), ""

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
            lower, upper = self.name.lower(), self.name.upper()
            raise InputError(f"{self.name} needs {what}. Give it by --{lower}-key-file or PROGRESS_EXHAUST_{upper}_KEY")
        return self.key

    def _checked(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from blocks
        except DAMAGED:
            raise self._damaged() from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> InputError:
        return InputError(f"{self.name} cannot be read: {error.strerror or type(error).__name__}")

    def _damaged(self) -> InputError:
        key = ", or its key is not the right one" if self.key else ""
        return InputError(f"{self.name} cannot be read to its end: it is damaged{key}")
