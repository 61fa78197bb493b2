"""Which of the four security levels a report has, and by which key (data model, section 6).

The rule: a level that cannot be kept fails the request; it never makes a weaker file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from progress_exhaust.errors import RequestError
from progress_exhaust.report.request import JOB_ID

STRICTEST = "strictest"
MOST_PASSWORD_BYTES = 99  # of a zip that 7-Zip opens
UNREADABLE = "The org's data security policy cannot be read: let it state a level again, then ask again"


class Level(StrEnum):
    """What the requester gets, the weakest first: Sunbird's own order."""

    PLAIN = "PLAIN_DATASET"  # a zip of the csv
    PASSWORD = "PASSWORD_PROTECTED_DATASET"  # noqa: S105  a zip with the requester's text as its password
    TEXT_KEY = "TEXT_KEY_ENCRYPTED_DATASET"  # a zip of a csv encrypted by the requester's text
    PUBLIC_KEY = "PUBLIC_KEY_ENCRYPTED_DATASET"  # a zip of a csv encrypted for the org's private key


@dataclass(frozen=True)
class Protection:
    """A report's level, and the key that it needs."""

    level: Level
    text: str | None = field(default=None, repr=False)  # the requester's
    public_key: RSAPublicKey | None = None  # the org's


@dataclass(frozen=True)
class Keys:
    """How the keys are come by: each is asked for only where a level needs it, and is None where there is none."""

    text: Callable[[], str | None]
    public_key: Callable[[], RSAPublicKey | None]


def protection(policy: Any, default: str, keys: Keys) -> Protection:
    """Return what protects a report.

    :param policy: the org's dataSecurityPolicy as the preferences API gives it; None where it has none
    :param default: for an org whose policy states no level: a level, or `strictest`, the strictest that the request can meet

    Raises RequestError where the level is unknown, or lacks its key.
    """
    level = stated_level(policy) or default
    if level == STRICTEST:
        return _strictest(keys)
    match Level(level):
        case Level.PLAIN:
            return Protection(Level.PLAIN)
        case Level.PUBLIC_KEY:
            public_key = keys.public_key()
            if public_key is None:
                raise RequestError(f"The report must be encrypted ({level}), and the org has no public key for it: add one")
            return Protection(Level.PUBLIC_KEY, public_key=public_key)
        case by_text:
            text = keys.text()
            if text is None:
                raise RequestError(f"The report must be protected ({level}), and the request has no encryption key: give one")
            if by_text is Level.PASSWORD and len(text.encode()) > MOST_PASSWORD_BYTES:
                raise RequestError(
                    f"The request's encryption key is over {MOST_PASSWORD_BYTES} bytes, too long for a zip: shorten it"
                )
            return Protection(by_text, text)


def stated_level(policy: Any) -> Level | None:
    """Return the level that a policy states for this report, else for the whole tenant; None where it states neither."""
    if policy is None:
        return None
    job = _part_of(_part_of(policy, "job"), JOB_ID)
    stated = next((level for level in (job.get("level"), policy.get("level")) if level not in (None, "")), None)
    if stated is None:
        return None
    try:
        return Level(stated)
    except (ValueError, TypeError):
        known = ", ".join(Level)
        raise RequestError(
            f"The org's data security policy names an unknown level, {str(stated)[:60]!r}; known: {known}"
        ) from None


def _part_of(policy: Any, name: str) -> Mapping[str, Any]:
    part = policy.get(name) if isinstance(policy, dict) else ""
    if not isinstance(part, dict | None):
        raise RequestError(UNREADABLE)
    return part or {}


def _strictest(keys: Keys) -> Protection:
    public_key = keys.public_key()
    if public_key is not None:
        return Protection(Level.PUBLIC_KEY, public_key=public_key)
    text = keys.text()
    return Protection(Level.PLAIN) if text is None else Protection(Level.TEXT_KEY, text)
