"""The field's decryption tool and the platform's encryption, by the openssl command: none of the product's code is in them."""

import base64
import hashlib
import subprocess
from pathlib import Path

PLATFORM_KEY = "ThisAsISerceKtey"
NO_IV = "0" * 32
ROUNDS = 3


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=data, check=True, capture_output=True).stdout


def decrypted(data: bytes, *, text: str | None = None, private_key: Path | None = None) -> bytes:
    """Decrypt a csv as its receiver does: by the text that the requester gave, or by the org's private key."""
    level, wrapped, ciphertext = data.split(b"\n", 2)
    if text is not None:
        assert level == b"TEXT_KEY_ENCRYPTED_DATASET"
        text_key = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper().encode()
        file_key = openssl("enc", "-d", "-aes-256-cbc", "-K", text_key.hex(), "-iv", NO_IV, data=base64.b64decode(wrapped))
    else:
        assert level == b"PUBLIC_KEY_ENCRYPTED_DATASET" and private_key
        file_key = openssl(
            "pkeyutl", "-decrypt", "-inkey", private_key, "-pkeyopt", "rsa_padding_mode:pkcs1", data=base64.b64decode(wrapped)
        )
    assert len(file_key) == 32
    return openssl("enc", "-d", "-aes-256-cbc", "-K", file_key.hex(), "-iv", NO_IV, data=ciphertext)


def key_pair(folder: Path, *, bits: int = 2048) -> tuple[Path, Path]:
    """Make an RSA key; return the files of its private and its public half."""
    private, public = folder / "private.pem", folder / "public.pem"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def platform_encrypted(text: str, salt: str, *, rounds: int = ROUNDS, wrapped: bool = False) -> str:
    """Encrypt a requester's key as the LMS does; wrapped: with the line breaks of its older encoder."""
    for _ in range(rounds):
        data = openssl("enc", "-aes-128-ecb", "-K", PLATFORM_KEY.encode().hex(), data=(salt + text).encode())
        text = base64.encodebytes(data).decode().rstrip("\n") if wrapped else base64.b64encode(data).decode()
    return text
