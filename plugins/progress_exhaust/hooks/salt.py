"""The salt of the installation: the platform's `sunbird_encryption_key`, as the password of an Airflow connection."""

from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.log import mask_secret

from progress_exhaust.airflow_names import AirflowNotFoundException

CONNECTION_ID = "progress_exhaust_salt"


def read_salt() -> str | None:
    """Return the salt; None if the connection does not exist or has no password. Airflow masks the salt in every later log."""
    try:
        salt = BaseHook.get_connection(CONNECTION_ID).password
    except AirflowNotFoundException:
        return None
    mask_secret(salt)
    return salt or None
