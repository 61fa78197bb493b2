"""How a report is protected: the org's policy, the keys, and whether the container is public."""

from typing import TYPE_CHECKING

from airflow.sdk.log import mask_secret

from progress_exhaust.errors import RequestError, SetupError
from progress_exhaust.stages.batch_context import BatchContext

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from progress_exhaust.hooks.report_store import ReportStoreHook
    from progress_exhaust.security.levels import Protection
    from progress_exhaust.settings import Settings


def choose_protection(batch_context: BatchContext) -> "Protection":
    """Return the security level of the report and its key.

    Raises RequestError if the level cannot be met, SetupError if this is a standalone run, which has no key.
    """
    from progress_exhaust.security.levels import Keys, Level, ZipCipher, protection, stated_level

    settings, batch, log = batch_context.site.settings, batch_context.batch, batch_context.log
    keys = Keys(text=lambda: _requester_key(batch_context), public_key=lambda: _public_key(batch_context))
    policy = None
    if _has_org(batch_context):
        with batch_context.site.org_api() as orgs:
            policy = orgs.security_policy(batch.channel)
    try:
        found = protection(stated_level(policy), settings.default_security_level, keys)
    except RequestError as error:
        if batch.request_id:
            raise
        raise SetupError(f"{error}. A run without a request has no key: set another default_security_level") from None
    log.info("%s: level=%s", batch, found.level)
    if found.level is Level.PASSWORD and settings.zip_cipher is ZipCipher.ZIP_CRYPTO:
        log.warning("%s: the zip cipher ZipCrypto is broken. Set zip_cipher to AES-256", batch)
    return found


def check_container(batch_context: BatchContext, store: "ReportStoreHook", protection: "Protection") -> None:
    """Refuse a public container unless the settings allow it. Even then, refuse a zip that everyone could open."""
    from progress_exhaust.security.levels import Level, ZipCipher

    settings, batch = batch_context.site.settings, batch_context.batch
    if not is_allowed_public(settings, store):
        return
    public = describe_public(settings)
    if protection.level is Level.PLAIN and not batch.request_id:
        raise SetupError(f"{public}. A run without a request has no key to protect its report. Make the container private")
    if protection.level is Level.PLAIN:
        raise RequestError(
            "The report would be stored without protection in a public place. Ask for it with an encryption key, or let your "
            "org choose a security level other than PLAIN_DATASET"
        )
    if protection.level is Level.PASSWORD and settings.zip_cipher is ZipCipher.ZIP_CRYPTO:
        raise SetupError(f"{public}, and the zip cipher ZipCrypto is broken. Set zip_cipher to AES-256, or make it private")


def is_allowed_public(settings: "Settings", store: "ReportStoreHook") -> bool:
    """Tell whether the container is public; raise SetupError if it is, and the settings do not allow that."""
    public = store.is_public()
    if public and not settings.allow_public_container:
        raise SetupError(
            f"{describe_public(settings)}. Make it private: the API signs the links. The setting allow_public_container "
            "publishes there anyway, but no plain zip"
        )
    return public


def describe_public(settings: "Settings") -> str:
    """Return what is wrong with a public container, for messages."""
    return f"The reports container {settings.reports_container_url} is public: everyone can download from it"


def _requester_key(batch_context: BatchContext) -> str | None:
    from progress_exhaust.hooks.salt import read_salt
    from progress_exhaust.security.salt import requester_key

    if not batch_context.batch.request_id:
        return None
    stored = batch_context.claims.encryption_key(batch_context.batch)
    mask_secret(stored)
    text = requester_key(stored, batch_context.site.settings.platform_encryption_key, read_salt())
    mask_secret(text)
    return text


def _public_key(batch_context: BatchContext) -> "RSAPublicKey | None":
    from progress_exhaust.security.encryption import read_public_key

    if not _has_org(batch_context):
        return None
    with batch_context.site.org_api() as orgs:
        url = orgs.public_key_url(batch_context.batch.channel)
    return read_public_key(batch_context.site.public_keys().fetch(url)) if url else None


def _has_org(batch_context: BatchContext) -> bool:
    """Tell whether the org is asked for its policy; a run without a request has no org."""
    return bool(batch_context.batch.request_id) and batch_context.site.settings.org_policy_source == "api"
