"""The platform's own encryption: of a csv, and of the key that a requester gave (data model, section 6).

A decryption tool for the csv is in the field: its format is fixed to the byte, weaknesses and all.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.padding import PKCS7

from progress_exhaust.errors import RequestError, SetupError
from progress_exhaust.report.security import Level

BLOCK_BYTES = 16
LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 16_384  # more than that OpenSSL does not encrypt by
ROUNDS = 3  # of the platform's encryption of a requester's key
LEAST_BYTES_OF_ROUNDS = 48  # what three rounds make of the shortest key

Wrap = Callable[[bytes], bytes]  # encrypts a file's key


def encrypted_csv(chunks: Iterable[bytes], level: Level, wrap: Wrap) -> Iterator[bytes]:
    """Yield the encrypted file: a line with the level, one with the wrapped file key in base64, then the raw ciphertext."""
    file_key = os.urandom(32)
    yield f"{level}\n{base64.b64encode(wrap(file_key)).decode()}\n".encode()
    yield from _aes_cbc(file_key, chunks)


def wrap_by_text(text: str) -> Wrap:
    """Wrap a file's key by a requester's text."""
    key = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper().encode()
    return lambda file_key: b"".join(_aes_cbc(key, [file_key]))


def wrap_by_public_key(public_key: RSAPublicKey) -> Wrap:
    """Wrap a file's key for the owner of the private key."""
    return lambda file_key: public_key.encrypt(file_key, PKCS1v15())


def read_public_key(pem: bytes) -> RSAPublicKey:
    """Read an org's PEM file; raises RequestError where it holds no RSA public key of 2048 to 16,384 bits that works."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise RequestError("The file at the URL of the org's public key is no public key in PEM form: upload another") from None
    if not isinstance(key, RSAPublicKey):
        raise RequestError("The org's public key is no RSA key: upload another")
    if key.key_size < LEAST_RSA_BITS:
        raise RequestError(f"The org's public key has {key.key_size} bits, and needs {LEAST_RSA_BITS} or more: upload another")
    if key.key_size > MOST_RSA_BITS:
        raise RequestError(f"The org's public key has {key.key_size} bits, and may have {MOST_RSA_BITS} at most: upload another")
    try:
        wrap_by_public_key(key)(bytes(32))
    except ValueError:
        raise RequestError("The org's public key cannot encrypt anything: upload another") from None
    return key


def requester_key(stored: str | None, platform_key: str, salt: str | None) -> str | None:
    """Return the text that the requester gave, whether it is stored encrypted or as it stands; None where there is none.

    :param stored: the request's encryption_key
    :param platform_key: the platform's constant key, 16 characters
    :param salt: the install's secret, which each round puts before the text; None where the site names none

    Raises RequestError where it is encrypted and does not come out again, SetupError where only the salt is missing.
    """
    if not stored or not stored.strip():
        return None
    text = stored
    for number in range(ROUNDS):
        blocks = _blocks(text)
        plain = _decrypted(blocks, platform_key)
        if plain is None and number == 0 and len(blocks) < LEAST_BYTES_OF_ROUNDS:
            return stored
        if plain is not None and salt is None:
            raise SetupError(
                "The requests' encryption keys are encrypted, and there is no salt to read them by: add a connection "
                "progress_exhaust_salt whose password is the platform's sunbird_encryption_key"
            )
        if plain is None or salt is None or not plain.startswith(salt):
            raise _not_readable()
        text = plain.removeprefix(salt)
    if not text.strip():
        raise _not_readable()
    return text


def _not_readable() -> RequestError:
    return RequestError("The request's encryption key cannot be read: ask again with another key")


def _aes_cbc(key: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    padder = PKCS7(BLOCK_BYTES * 8).padder()
    cipher = Cipher(AES(key), CBC(bytes(BLOCK_BYTES))).encryptor()
    for chunk in chunks:
        yield cipher.update(padder.update(chunk))
    yield cipher.update(padder.finalize()) + cipher.finalize()


def _blocks(text: str) -> bytes:
    """Return the whole AES blocks that a base64 text stands for; nothing where it is none. Some encoders break lines."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return b""
    return b"" if len(data) % BLOCK_BYTES else data


def _decrypted(blocks: bytes, platform_key: str) -> str | None:
    if not blocks:
        return None
    cipher = Cipher(AES(platform_key.encode()), ECB()).decryptor()  # noqa: S305  the platform's choice
    unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
    try:
        return (unpadder.update(cipher.update(blocks)) + unpadder.finalize()).decode()
    except ValueError:
        return None
