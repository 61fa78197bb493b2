"""The install's salt: the platform's `sunbird_encryption_key`, as the password of an Airflow connection."""

from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

CONNECTION = "progress_exhaust_salt"


def read_salt() -> str | None:
    """Return the salt; None for a site that names none. It is masked in every log from here on."""
    try:
        salt = BaseHook.get_connection(CONNECTION).password
    except AirflowNotFoundException:
        return None
    mask_secret(salt)
    return salt or None
