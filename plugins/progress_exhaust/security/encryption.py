"""Encrypt a csv in the platform's own format (data model, section 6).

The platform's users have a tool that decrypts this format, so no byte of it may change, not even where it is weak.
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
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from progress_exhaust.errors import RequestError
from progress_exhaust.security.levels import Level

BLOCK_BYTES = 16
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16_384  # OpenSSL does not encrypt with longer keys

Wrap = Callable[[bytes], bytes]  # encrypts the key of a file


def encrypted_csv(chunks: Iterable[bytes], level: Level, wrap: Wrap) -> Iterator[bytes]:
    """Yield the encrypted file: a line with the level, a line with the wrapped file key in base64, the raw ciphertext."""
    file_key = os.urandom(32)
    yield f"{level}\n{base64.b64encode(wrap(file_key)).decode()}\n".encode()
    yield from _aes_cbc(file_key, chunks)


def wrap_by_text(text: str) -> Wrap:
    """Return a function that encrypts a file key with a requester's text."""
    return lambda file_key: b"".join(_aes_cbc(text_key(text), [file_key]))


def text_key(text: str) -> bytes:
    """Return the AES key that the platform makes of a requester's text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper().encode()


def wrap_by_public_key(public_key: RSAPublicKey) -> Wrap:
    """Return a function that encrypts a file key for the owner of the private key."""
    return lambda file_key: public_key.encrypt(file_key, PKCS1v15())


def read_public_key(pem: bytes) -> RSAPublicKey:
    """Read an org's PEM file.

    Raises RequestError if the file does not hold a usable RSA public key of 2048 to 16,384 bits.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise _not_usable("The file at the URL of the org's public key is not a public key in PEM form") from None
    if not isinstance(key, RSAPublicKey):
        raise _not_usable("The org's public key is not an RSA key")
    if key.key_size < MIN_RSA_BITS:
        raise _not_usable(f"The org's public key has {key.key_size} bits, and needs {MIN_RSA_BITS} or more")
    if key.key_size > MAX_RSA_BITS:
        raise _not_usable(f"The org's public key has {key.key_size} bits, and may have at most {MAX_RSA_BITS}")
    try:
        wrap_by_public_key(key)(bytes(32))
    except ValueError:
        raise _not_usable("The org's public key cannot encrypt anything") from None
    return key


def _not_usable(problem: str) -> RequestError:
    return RequestError(f"{problem}. Upload another key in the org's settings")


def _aes_cbc(key: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    padder = PKCS7(BLOCK_BYTES * 8).padder()
    cipher = Cipher(AES(key), CBC(bytes(BLOCK_BYTES))).encryptor()
    for chunk in chunks:
        yield cipher.update(padder.update(chunk))
    yield cipher.update(padder.finalize()) + cipher.finalize()
