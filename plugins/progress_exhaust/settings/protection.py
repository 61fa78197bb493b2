"""Settings that decide how a report is protected."""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from progress_exhaust.security.levels import DefaultLevel, ZipCipher
from progress_exhaust.settings.field_types import MAIN, EncryptionKey, Host, UrlPath


class Protection(BaseModel):
    """Security levels, ciphers, and the source of the orgs' policies and public keys."""

    default_security_level: DefaultLevel = Field(
        DefaultLevel.STRICTEST,
        description="Security level if the org's policy does not set one. `strictest` uses the org's public key, else the "
        "request's encryption key (TEXT_KEY), else no protection.",
        json_schema_extra=MAIN,
    )
    org_policy_source: Literal["api", "none"] = Field(
        "api",
        description="Source of the orgs' security policies and public keys. `api`: the connection `progress_exhaust_org`. "
        "`none`: `default_security_level` applies to every org.",
    )
    org_preferences_path: UrlPath = Field(
        "/private/v2/org/preferences/read", description="Path of the API for the preferences of an org, below its connection."
    )
    org_search_path: UrlPath = Field(
        "/private/v2/org/search", description="Path of the org search API, below the same connection."
    )
    zip_cipher: ZipCipher = Field(
        ZipCipher.AES_256,
        description="Cipher of a zip with a password. ZipCrypto is for tools that do not support AES. It is broken: attackers "
        "can open such a zip without the password.",
    )
    platform_encryption_key: EncryptionKey = Field(
        "ThisAsISerceKtey",
        description="Constant key in Sunbird's source code that encrypts the requests' encryption keys. It is not a secret; the "
        "salt is.",
    )
    public_key_hosts: tuple[Host, ...] = Field(
        (), description="Hosts that the orgs' public keys may be downloaded from: `name` or `name:port`."
    )
    public_key_private_hosts: tuple[Host, ...] = Field(
        (), description="Hosts of `public_key_hosts` that may have a private IP address."
    )
    public_key_plain_http: bool = Field(False, description="Allow downloads of public keys over http without TLS.")

    @model_validator(mode="after")
    def _check_public_keys_have_a_source(self) -> Self:
        if self.org_policy_source == "none" and self.default_security_level is DefaultLevel.PUBLIC_KEY:
            raise ValueError(
                "default_security_level PUBLIC_KEY_ENCRYPTED_DATASET needs org_policy_source api, the source of public keys"
            )
        return self
