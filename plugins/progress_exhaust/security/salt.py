"""Decrypt the key that a requester gave: the platform stores it encrypted by its constant key and the site's salt.

The format is Sunbird's own (data model, section 6).
"""

import base64

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.padding import PKCS7

from progress_exhaust.errors import RequestError, SetupError
from progress_exhaust.security.encryption import BLOCK_BYTES

ROUNDS = 3  # how many times the platform encrypts a requester's key
MIN_ENCRYPTED_BYTES = 48  # the length of the shortest key after three rounds


def requester_key(stored: str | None, platform_key: str, salt: str | None) -> str | None:
    """Return the text that the requester gave, or None if there is no text.

    The row may hold the text encrypted or unencrypted. A text that the platform's key does not decrypt is unencrypted, also if
    it looks like base64.

    :param stored: the request's encryption_key
    :param platform_key: the platform's constant key, 16 characters
    :param salt: the site's secret, which the platform puts before the text in each round; None if the site has no salt

    Raises RequestError if the text was encrypted with another salt, and SetupError if only the salt is missing.
    """
    if not stored or not stored.strip():
        return None
    text = stored
    for number in range(ROUNDS):
        blocks = _blocks(text)
        plain = _decrypt(blocks, platform_key)
        if number == 0 and (plain is None or len(blocks) < MIN_ENCRYPTED_BYTES):
            return stored
        if plain is not None and salt is None:
            raise SetupError(
                "The encryption keys of the requests are encrypted, and there is no salt to decrypt them. Add a connection "
                "progress_exhaust_salt whose password is the platform's sunbird_encryption_key"
            )
        if plain is None or salt is None or not plain.startswith(salt):
            raise _not_readable()
        text = plain.removeprefix(salt)
    if not text.strip():
        raise _not_readable()
    return text


def _not_readable() -> RequestError:
    return RequestError("The request's encryption key cannot be read. Send a new request with another key")


def _blocks(text: str) -> bytes:
    """Return the AES blocks of a base64 text, or nothing if it is not base64 of whole blocks. Some encoders break lines."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return b""
    return b"" if len(data) % BLOCK_BYTES else data


def _decrypt(blocks: bytes, platform_key: str) -> str | None:
    if not blocks:
        return None
    cipher = Cipher(AES(platform_key.encode()), ECB()).decryptor()  # noqa: S305  the platform's choice
    unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
    try:
        return (unpadder.update(cipher.update(blocks)) + unpadder.finalize()).decode()
    except ValueError:
        return None
