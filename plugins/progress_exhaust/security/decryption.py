"""Decrypt a csv of the platform's own format (data model, section 6), with the requester's text or the org's private key."""

import base64
from collections.abc import Callable, Iterator
from typing import BinaryIO

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from progress_exhaust.security.encryption import BLOCK_BYTES, text_key

MAX_WRAPPED_BYTES = 1 << 14  # of the line with the file key: an RSA key of 16,384 bits needs 2,732
READ_BYTES = 1 << 20

Unwrap = Callable[[bytes], bytes]  # decrypts the key of a file


def decrypted_csv(encrypted: BinaryIO, unwrap: Unwrap) -> Iterator[bytes]:
    """Yield the csv of an encrypted file. The file is read from its second line on, which has the wrapped file key.

    Raises ValueError if the key is not the right one, or if the file is damaged.
    """
    file_key = unwrap(base64.b64decode(encrypted.readline(MAX_WRAPPED_BYTES)))
    yield from _aes_cbc(file_key, iter(lambda: encrypted.read(READ_BYTES), b""))


def unwrap_by_text(text: str) -> Unwrap:
    """Return a function that decrypts a file key with the requester's text."""
    return lambda wrapped: b"".join(_aes_cbc(text_key(text), iter([wrapped])))


def unwrap_by_private_key(pem: bytes) -> Unwrap:
    """Return a function that decrypts a file key with the org's private key.

    Raises ValueError if the PEM file does not hold an RSA private key, or if the key has a passphrase.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("It is not an RSA key")
    return lambda wrapped: key.decrypt(wrapped, PKCS1v15())


def _aes_cbc(key: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    padder = PKCS7(BLOCK_BYTES * 8).unpadder()
    cipher = Cipher(AES(key), CBC(bytes(BLOCK_BYTES))).decryptor()
    for chunk in chunks:
        yield padder.update(cipher.update(chunk))
    yield padder.update(cipher.finalize()) + padder.finalize()
