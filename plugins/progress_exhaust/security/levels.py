"""Choose the security level of a report and the key for it (data model, section 6).

The rule: if a level cannot be kept, the request fails. The report never gets a weaker level instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from progress_exhaust.errors import RequestError
from progress_exhaust.report.request import JOB_ID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

MAX_PASSWORD_BYTES = 99  # 7-Zip opens no zip with a longer password
UNREADABLE = "The org's data security policy cannot be read. State its level again in the org's settings, then send a new request"


class Level(StrEnum):
    """How a report is protected, in Sunbird's own order, weakest first."""

    PLAIN = "PLAIN_DATASET"  # a zip of the csv
    PASSWORD = "PASSWORD_PROTECTED_DATASET"  # noqa: S105  a zip; its password is the requester's text
    TEXT_KEY = "TEXT_KEY_ENCRYPTED_DATASET"  # a zip of a csv encrypted with the requester's text
    PUBLIC_KEY = "PUBLIC_KEY_ENCRYPTED_DATASET"  # a zip of a csv encrypted for the owner of the org's private key


class DefaultLevel(StrEnum):
    """The level of a report whose org states no level: the strictest that has a key, or a level by name."""

    STRICTEST = "strictest"  # the org's public key, else the requester's text, else plain
    PLAIN = Level.PLAIN.value
    PASSWORD = Level.PASSWORD.value
    TEXT_KEY = Level.TEXT_KEY.value
    PUBLIC_KEY = Level.PUBLIC_KEY.value


class ZipCipher(StrEnum):
    """The cipher of a zip with a password."""

    AES_256 = "AES-256"
    ZIP_CRYPTO = "ZipCrypto"  # for tools that do not support AES; it is broken


@dataclass(frozen=True)
class Protection:
    """A report's level, and the key that it needs."""

    level: Level
    text: str | None = field(default=None, repr=False)  # the requester's
    public_key: "RSAPublicKey | None" = None  # the org's


@dataclass(frozen=True)
class Keys:
    """How to get the keys. Each is asked for only if a level needs it, and returns None if there is no key."""

    text: Callable[[], str | None]
    public_key: Callable[[], "RSAPublicKey | None"]


def stated_level(policy: object) -> Level | None:
    """Return the level that an org's policy states for this report, else for all its reports; None if it states no level.

    :param policy: the org's dataSecurityPolicy as the preferences API returns it; None if the org has no policy

    Raises RequestError if the policy is not readable, or if its level is unknown.
    """
    if policy is None:
        return None
    if not isinstance(policy, dict):
        raise RequestError(UNREADABLE)
    job = _member(_member(policy, "job"), JOB_ID)
    stated = next((level for level in (job.get("level"), policy.get("level")) if level not in (None, "")), None)
    if stated is None:
        return None
    if not isinstance(stated, str) or stated not in tuple(Level):
        raise RequestError(
            f"The org's data security policy names an unknown level, {str(stated)[:60]!r}. Known levels: {', '.join(Level)}. "
            "Fix it in the org's settings"
        )
    return Level(stated)


def protection(stated: Level | None, default: DefaultLevel, keys: Keys) -> Protection:
    """Return how to protect a report: by the level that the org states, else by the default.

    Raises RequestError if there is no key for the level.
    """
    if stated is None and default is DefaultLevel.STRICTEST:
        return _strictest(keys)
    level = stated or Level(default)
    match level:
        case Level.PLAIN:
            return Protection(Level.PLAIN)
        case Level.PUBLIC_KEY:
            public_key = keys.public_key()
            if public_key is None:
                raise RequestError(
                    f"The report must be encrypted ({level}), and the org has no public key for it. "
                    "Upload a key in the org's settings"
                )
            return Protection(Level.PUBLIC_KEY, public_key=public_key)
        case Level.PASSWORD | Level.TEXT_KEY:
            text = keys.text()
            if text is None:
                raise RequestError(
                    f"The report must be protected ({level}), and the request has no encryption key. "
                    "Send a new request with an encryption key"
                )
            if level is Level.PASSWORD and len(text.encode()) > MAX_PASSWORD_BYTES:
                raise RequestError(
                    f"The request's encryption key has more than {MAX_PASSWORD_BYTES} bytes, which is too long for a zip. "
                    "Send a new request with a shorter key"
                )
            return Protection(level, text)


def _strictest(keys: Keys) -> Protection:
    public_key = keys.public_key()
    if public_key is not None:
        return Protection(Level.PUBLIC_KEY, public_key=public_key)
    text = keys.text()
    return Protection(Level.PLAIN) if text is None else Protection(Level.TEXT_KEY, text)


def _member(policy: dict[str, object], name: str) -> dict[str, object]:
    member = policy.get(name)
    if not isinstance(member, dict | None):
        raise RequestError(UNREADABLE)
    return member or {}
