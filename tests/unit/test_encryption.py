"""The platform's encryption, held against openssl: what the field's decryption tool reads, and what the LMS writes."""

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dev import machine
from progress_exhaust.errors import RequestError, SetupError
from progress_exhaust.security.encryption import (
    encrypted_csv,
    read_public_key,
    wrap_by_public_key,
    wrap_by_text,
)
from progress_exhaust.security.levels import Level
from progress_exhaust.security.salt import requester_key
from tests.openssl import PLATFORM_KEY, decrypted, key_pair, openssl, platform_encrypted

CSV = "User UUID,State\r\nu1,தமிழ்நாடு\r\n".encode()
TEXTS = ["S3cret", "पासवर्ड १२३", "a long one: " + "x" * 100]
SALT = "the-installs-salt"
SECURITY_PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/open-protected-reports.md"


@pytest.fixture(autouse=True, scope="module")
def tools() -> None:
    machine.install_packages()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"))


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("text", TEXTS)
def test_a_csv_encrypted_by_a_text_comes_out_again(text: str) -> None:
    data = b"".join(encrypted_csv([CSV], Level.TEXT_KEY, wrap_by_text(text)))
    assert decrypted(data, text=text) == CSV


def test_a_csv_encrypted_for_a_public_key_comes_out_again(keys: tuple[Path, Path]) -> None:
    private, public = keys
    data = b"".join(encrypted_csv([CSV], Level.PUBLIC_KEY, wrap_by_public_key(read_public_key(public.read_bytes()))))
    assert decrypted(data, private_key=private) == CSV


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 32, 1000])
@pytest.mark.parametrize("chunk", [1, 16, 7, 5000])
def test_no_size_is_special(size: int, chunk: int) -> None:
    csv = (CSV * 40)[:size]
    data = b"".join(encrypted_csv(chunked(csv, chunk), Level.TEXT_KEY, wrap_by_text("S3cret")))
    assert decrypted(data, text="S3cret") == csv


def test_the_file_is_two_lines_and_the_raw_ciphertext() -> None:
    level, wrapped, ciphertext = b"".join(encrypted_csv([CSV], Level.TEXT_KEY, wrap_by_text("S3cret"))).split(b"\n", 2)
    assert level == b"TEXT_KEY_ENCRYPTED_DATASET"
    assert len(base64.b64decode(wrapped, validate=True)) == 48  # 32 bytes, and a block of padding
    assert len(ciphertext) == (len(CSV) // 16 + 1) * 16


def test_each_file_has_a_key_of_its_own() -> None:
    first, second = (b"".join(encrypted_csv([CSV], Level.TEXT_KEY, wrap_by_text("S3cret"))) for _ in range(2))
    assert first.split(b"\n", 2)[1] != second.split(b"\n", 2)[1]
    assert first.split(b"\n", 2)[2] != second.split(b"\n", 2)[2]


@pytest.mark.parametrize("level", [Level.TEXT_KEY, Level.PUBLIC_KEY])
def test_what_the_docs_say_of_opening_one_without_the_tool_works(tmp_path: Path, keys: tuple[Path, Path], level: Level) -> None:
    name = "013307481768378368112_progress_20220927.csv"
    wrap = wrap_by_text("the text") if level is Level.TEXT_KEY else wrap_by_public_key(read_public_key(keys[1].read_bytes()))
    (tmp_path / name).write_bytes(b"".join(encrypted_csv([CSV], level, wrap)))
    (tmp_path / "private.pem").write_bytes(keys[0].read_bytes())
    section = SECURITY_PAGE.read_text().partition("\n## Decrypt a csv with openssl\n")[2]
    script = section.partition("```sh\n")[2].partition("```")[0]
    start, by_text, by_public_key, end = script.split("\n\n")
    steps = [start, by_text if level is Level.TEXT_KEY else by_public_key, end]
    subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(steps)], cwd=tmp_path, check=True)
    assert (tmp_path / "clear.csv").read_bytes() == CSV


# The org's public key


def rsa_pem(exponent: int, modulus: int) -> bytes:
    key = RSAPublicNumbers(exponent, modulus).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_a_short_key_is_refused_with_a_message(tmp_path: Path) -> None:
    _, public = key_pair(tmp_path, bits=1024)
    with pytest.raises(RequestError, match="has 1024 bits, and needs 2048 or more"):
        read_public_key(public.read_bytes())


def test_a_key_with_more_bits_than_openssl_takes_is_refused_with_a_message() -> None:
    assert wrap_by_public_key(read_public_key(rsa_pem(65537, (1 << 16_383) + 1)))(bytes(32))
    for bits in (16_385, 32_768):
        with pytest.raises(RequestError, match=f"has {bits} bits, and may have at most 16384. Upload another"):
            read_public_key(rsa_pem(65537, (1 << (bits - 1)) + 1))


@pytest.mark.parametrize(("exponent", "modulus"), [((1 << 100) + 1, (1 << 4095) + 1), (65537, 1 << 4095)])
def test_a_key_that_encrypts_nothing_is_refused_with_a_message(exponent: int, modulus: int) -> None:
    with pytest.raises(RequestError, match=r"public key cannot encrypt anything\. Upload another"):
        read_public_key(rsa_pem(exponent, modulus))


def test_a_key_that_is_not_rsa_is_refused_with_a_message(tmp_path: Path) -> None:
    private = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    with pytest.raises(RequestError, match="is not an RSA key"):
        read_public_key(openssl("pkey", "-pubout", data=private))


@pytest.mark.parametrize("pem", [b"", b"<html>", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff\0"])
def test_text_that_is_not_a_key_is_refused_with_a_message(pem: bytes) -> None:
    with pytest.raises(RequestError, match="not a public key in PEM form"):
        read_public_key(pem)


def test_a_private_key_is_refused_as_a_public_key(keys: tuple[Path, Path]) -> None:
    with pytest.raises(RequestError, match="not a public key in PEM form"):
        read_public_key(keys[0].read_bytes())


# The requester's key

# Two blocks: shorter than what three rounds make, so it is plain text, though one round decrypts it.
PLAIN_THAT_DECRYPTS = platform_encrypted("a key of a sheet", "", rounds=1)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["one line", "lines of 76"])
def test_a_key_that_the_platform_encrypted_is_read(text: str, wrapped: bool) -> None:
    assert requester_key(platform_encrypted(text, SALT, wrapped=wrapped), PLATFORM_KEY, SALT) == text


@pytest.mark.parametrize("salt", [SALT, None])
@pytest.mark.parametrize(
    "text",
    [
        *TEXTS, " blanks ", "YWJj", "QUJDREVGR0hJSktMTU5PUA==", "0123456789abcdef",
        *(base64.b64encode(bytes(range(size))).decode() for size in (16, 32, 48, 64, 256)),
        "thisIsALongPassphraseOf64CharactersOfBase64InLowerAndUpperCase12",
        base64.b64encode(b"x" * 48).decode(),
        PLAIN_THAT_DECRYPTS,
    ],
)  # fmt: skip
def test_a_plain_key_is_used_as_it_stands(text: str, salt: str | None) -> None:
    assert requester_key(text, PLATFORM_KEY, salt) == text


@pytest.mark.parametrize("stored", [None, "", "  ", "\n"])
def test_a_blank_key_counts_as_missing(stored: str | None) -> None:
    assert requester_key(stored, PLATFORM_KEY, SALT) is None


UNREADABLE = {
    "of another salt": platform_encrypted("S3cret", "another-salt"),
    "of no salt": platform_encrypted("S3cret", ""),
    "of two rounds": platform_encrypted("S3cret", SALT, rounds=2),
    "of nothing": platform_encrypted("", SALT),
    "of blanks": platform_encrypted("  ", SALT),
}


@pytest.mark.parametrize("stored", UNREADABLE.values(), ids=UNREADABLE)
def test_a_key_that_does_not_come_out_again_is_refused_without_showing_it(stored: str) -> None:
    with pytest.raises(RequestError, match=r"cannot be read\. Send a new request with another key") as caught:
        requester_key(stored, PLATFORM_KEY, SALT)
    assert stored not in str(caught.value) and "S3cret" not in str(caught.value)


def test_the_error_about_a_missing_salt_says_what_to_add() -> None:
    with pytest.raises(SetupError, match="connection progress_exhaust_salt"):
        requester_key(platform_encrypted("S3cret", SALT), PLATFORM_KEY, None)
