"""What a route of the page needs: rights, the audit log of what changes something or gives a file, and the connection."""

import json
from collections.abc import Callable
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request

from progress_exhaust import compat
from progress_exhaust.airflow_names import AirflowNotFoundException, conf
from progress_exhaust.errors import SetupError
from progress_exhaust.hooks.requests.releases import Releases
from progress_exhaust.hooks.requests.status import RequestStatusReader
from progress_exhaust.names import REPORT_DAG_ID

RIGHTS = {"GET": "read", "PUT": "edit"}  # a method of Airflow's auth manager: what it allows


class MissingRightError(HTTPException):
    """The user lacks a right, which the message names."""


def needs(method: str) -> Callable[[Any], None]:
    """Return a dependency of a route: only users with this right on the DAG may use it."""

    def check(user: GetUserDep) -> None:
        if not is_allowed(user, method):
            raise MissingRightError(
                403, f"You do not have permission. This needs the right to {RIGHTS[method]} the DAG {REPORT_DAG_ID}."
            )

    return check


def is_allowed(user: Any, method: Any, entity: DagAccessEntity | None = None) -> bool:
    """Tell whether the user may do this to the DAG: Airflow's REST API asks the same question."""
    details = DagDetails(id=REPORT_DAG_ID, team_name=DagModel.get_team_name(REPORT_DAG_ID))
    return get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user)


def check_origin(request: Request) -> None:
    """Accept a call that changes something only from this page, or from a program: not from a form or script of another site.

    Sec-Fetch-Site decides if the browser sends it, because a proxy may change the host.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_here = site == "same-origin" if site else origin is None or _host(origin) in _own_hosts(request)
    if not is_here:
        raise HTTPException(403, "The call comes from another site")
    if request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "The body must be JSON, with the Content-Type application/json")


def _own_hosts(request: Request) -> set[str]:
    """Return the names and ports under which a browser may know this Airflow."""
    hosts = [request.headers.get("Host", ""), *request.headers.get("X-Forwarded-Host", "").split(",")]
    addresses = [*(f"//{host.strip()}" for host in hosts), conf.get("api", "base_url", fallback="")]
    return {_host(address) for address in addresses} - {""}


def _host(address: str) -> str:
    """Return the host of an address, and its port unless that is a default; an empty text if it has none."""
    return address.partition("//")[2].partition("/")[0].lower().removesuffix(":443").removesuffix(":80")


def audit(user: Any, event: str, **extra: str) -> None:
    """Add an entry to Airflow's audit log, before anything is done."""
    try:
        compat.write_audit_entry(event, REPORT_DAG_ID, user.get_name(), json.dumps(extra))
    except Exception as error:
        raise SetupError(
            f"The audit log of Airflow cannot be written ({type(error).__name__}). Without it, nothing is done"
        ) from None


def check_connection(hook: RequestStatusReader | Releases) -> None:
    """Raise SetupError if the API server does not have the connection to the requests: tasks may have it elsewhere."""
    try:
        _ = hook.connection
    except AirflowNotFoundException:
        name = hook.default_conn_name
        raise SetupError(
            f"The API server does not have the connection {name}. Add it under Admin, Connections, or set "
            f"AIRFLOW_CONN_{name.upper()} in the environment of the API server, too"
        ) from None
