"""The routes that change a request: cancel it, or release the claim of another installation on it.

Each needs the right to edit the DAG, and writes to Airflow's audit log first.
"""

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk import Variable
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from progress_exhaust.errors import ConflictError
from progress_exhaust.hooks.requests.releases import Releases
from progress_exhaust.hooks.requests.status import ANSWER_SECONDS
from progress_exhaust.names import INSTALLATION_VARIABLE
from progress_exhaust.page.access import audit, check_connection, check_origin, needs
from progress_exhaust.page.search import Text
from progress_exhaust.settings import VARIABLE, parse_settings

routes = APIRouter(dependencies=[Depends(needs("GET")), Depends(needs("PUT")), Depends(check_origin)])


class RequestKey(BaseModel):
    """The request to cancel."""

    tag: Text
    request_id: Text


class HeldRequest(RequestKey):
    """The request whose claim is released, and the run that holds it, as the page shows it."""

    run_id: Text


@routes.post("/cancel")
def cancel(user: GetUserDep, request: RequestKey) -> dict[str, str]:
    """Set a request to FAILED for good."""
    releases = _releases()
    audit(user, "progress_exhaust_cancel", **request.model_dump())
    releases.cancel((request.tag, request.request_id))
    return {}


@routes.post("/release")
def release(user: GetUserDep, request: HeldRequest) -> dict[str, str]:
    """Release the claim of another installation on a request."""
    releases = _releases()
    audit(user, "progress_exhaust_release", **request.model_dump())
    held = [one for one in releases.holders([request.request_id]) if (one.tag, one.run_id) == (request.tag, request.run_id)]
    if not held or held[0].is_ours:
        raise ConflictError(f"Run {request.run_id} of another installation no longer holds request {request.request_id}")
    if not releases.release(held[0]):
        raise ConflictError(f"A run writes a file of request {request.request_id} at this moment. Try again later")
    return {}


def _releases() -> Releases:
    settings = parse_settings(Variable.get(VARIABLE, default=None))
    releases = Releases(
        job_request_table=settings.job_request_table,
        ledger_schema=settings.ledger_schema,
        installation=Variable.get(INSTALLATION_VARIABLE, default=""),
        timeout_seconds=ANSWER_SECONDS,
    )
    check_connection(releases)
    return releases
