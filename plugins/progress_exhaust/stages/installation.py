"""The installation: one Airflow with its own metadata database. Its id is a Variable there, which its first task creates.

Claims and the ledger carry the id, because two Airflows may process the same job_request, and may have runs with the same id.
"""

import re
import uuid
from typing import TYPE_CHECKING

from airflow.sdk import Variable

from progress_exhaust import compat
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.names import INSTALLATION_VARIABLE

if TYPE_CHECKING:
    from progress_exhaust.hooks.requests.locks import Locks

DESCRIPTION = "Identifies this Airflow in the ledger of progress_exhaust. Do not change it, and do not copy it to another Airflow"


def find_installation(locks: "Locks") -> str:
    """Return the id of this installation; create it if no task has done so.

    It is asked of the API server: the environment and the secrets backend of this worker may serve several installations.
    """
    installation = compat.read_stored_variable(INSTALLATION_VARIABLE)
    if installation is None:
        with locks.lock_installation():  # two first tasks must not create two ids
            installation = compat.read_stored_variable(INSTALLATION_VARIABLE)
            if installation is None:
                Variable.set(INSTALLATION_VARIABLE, uuid.uuid4().hex, description=DESCRIPTION)
                installation = compat.read_stored_variable(INSTALLATION_VARIABLE)
    if installation is None:
        raise SourceError(f"Airflow did not store the Variable {INSTALLATION_VARIABLE}, which identifies this installation")
    if not re.fullmatch("[0-9a-f]{32}", installation):
        raise SetupError(
            f"The Variable {INSTALLATION_VARIABLE} must have 32 hexadecimal digits. It identifies this installation: restore the "
            "value that the column installation of the ledger has for this Airflow's runs"
        )
    return installation
