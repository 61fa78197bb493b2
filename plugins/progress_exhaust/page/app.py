"""The page's routes. Each stands behind Airflow's own login and wants the right to read the DAG; none changes anything.

What the buttons do is asked of Airflow's REST API by the browser, as the user who pressed: its rights and its audit log
are Airflow's.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, Field, StringConstraints

from progress_exhaust.errors import ProgressExhaustError, SetupError
from progress_exhaust.hooks.report_store import ReportStoreHook
from progress_exhaust.hooks.request_status import BatchStatus, Filter, RequestStatus, RequestStatusHook
from progress_exhaust.names import REPORT_DAG_ID as DAG_ID
from progress_exhaust.page.airflow_runs import find_runs, map_indexes
from progress_exhaust.page.views import charts, in_bytes, in_time, view
from progress_exhaust.report.request import MAX_FAILURES
from progress_exhaust.settings import VARIABLE, Settings, parse_settings

HERE = Path(__file__).parent
STATIC_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
REQUESTS_PER_PAGE = 50
NIGHTS = 30
STATUSES = ("SUBMITTED", "PROCESSING", "SUCCESS", "FAILED")
HEADERS = {
    # All of it comes from here; Airflow shows it in a frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


Text = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]  # Postgres takes no NUL
Word = Annotated[Text, StringConstraints(strip_whitespace=True)]


class Choice(BaseModel):
    """What the list is asked for; the fields of its form."""

    request: Word = ""
    batch: Word = ""
    collection: Word = ""
    channel: Word = ""
    status: Word = ""
    page: int = Field(1, ge=1, le=10_000)
    fragment: bool = False

    @property
    def filter(self) -> Filter:
        return Filter(**self.model_dump(include={field.name for field in fields(Filter)}))

    def query(self, **changes: Any) -> str:
        """Return the query of the same list, or of another page or status of it."""
        values = self.model_dump(exclude={"fragment"}) | changes
        return urlencode({name: value for name, value in values.items() if value and (name, value) != ("page", 1)})


app = FastAPI(
    title="Progress exhaust",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[Depends(requires_access_dag("GET", param_dag_id=DAG_ID))],
)

templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
templates.filters |= {
    "time": in_time,
    "bytes": in_bytes,
    "number": "{:,.0f}".format,
    "segment": lambda text: quote(text, safe=""),
    "moment": "{:%Y-%m-%d %H:%M} UTC".format,
}
templates.globals |= {"dag_id": DAG_ID, "max_failures": MAX_FAILURES}


@app.middleware("http")
async def with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


@app.exception_handler(HTTPException)
@app.exception_handler(404)  # the router's own, of an address that is none, too
async def refused(request: Request, error: HTTPException) -> Response:
    """Say it to a person in words, and to a program as Airflow does; the status is the same."""
    if not _is_person(request):
        return await http_exception_handler(request, error)
    words = {
        401: "You are not logged in, or no longer.",
        403: "You may not see this: it takes the right to read the DAG progress_exhaust.",
        404: "There is no such page or request.",
    }
    return _page(request, "message.html", error.status_code, message=words.get(error.status_code, str(error.detail)))


@app.exception_handler(RequestValidationError)
async def not_understood(request: Request, error: RequestValidationError) -> Response:
    if not _is_person(request):
        return await request_validation_exception_handler(request, error)
    mistakes = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return _page(request, "message.html", 422, message=f"The address of this page is wrong in {mistakes}")


@app.exception_handler(ProgressExhaustError)
async def out_of_order(request: Request, error: ProgressExhaustError) -> Response:
    return _page(request, "message.html", 503, message=str(error))


@app.get("/static/{name}")
def static(name: str) -> FileResponse:
    if name not in STATIC_FILES:
        raise HTTPException(404, "Not Found")
    return FileResponse(HERE / "static" / name, media_type=STATIC_FILES[name])


@app.get("/")
def list_page(request: Request, user: GetUserDep, chosen: Annotated[Choice, Query()]) -> HTMLResponse:
    """The requests, the newest first, and the last nights where nothing is searched.

    With `fragment`, without the nights: they take the longest to count, and the page does not follow them.
    """
    site = _settings()
    hook = _hook(site)
    found, total = hook.requests(chosen.filter, most=REQUESTS_PER_PAGE, skip=REQUESTS_PER_PAGE * (chosen.page - 1))
    batches = hook.batches(found)
    runs = find_runs(run for one in found for run in _run_ids(one, batches[one.key]))
    return _page(
        request,
        "list.html",
        views=[view(one, batches[one.key], runs, {}) for one in found],
        total=total,
        pages=max(1, -(-total // REQUESTS_PER_PAGE)),
        chosen=chosen,
        statuses=STATUSES,
        tallies={tally.status: tally for tally in hook.tally()},
        charts=[] if chosen.fragment or chosen.query() else charts(hook.nights(NIGHTS, site.report_timezone)),
        zone=site.report_timezone,
        may_trigger=_may(user, "POST", DagAccessEntity.RUN),
    )


@app.get("/request")
def request_page(request: Request, user: GetUserDep, tag: Text = "", request_id: Text = "", run_id: Text = "") -> HTMLResponse:
    """One request and its batches, or those of one standalone run."""
    hook = _hook(_settings())
    one = hook.request(tag, request_id, run_id)
    if one is None:
        raise HTTPException(404, "There is no such request")
    batches = hook.batches([one])[one.key]
    run_ids = _run_ids(one, batches)
    return _page(
        request,
        "request.html",
        view=view(one, batches, find_runs(run_ids), map_indexes(run_ids)),
        may_trigger=_may(user, "POST", DagAccessEntity.RUN),
        may_clear=_may(user, "PUT", DagAccessEntity.TASK_INSTANCE),
    )


@app.get("/file", dependencies=[Depends(requires_access_dag("PUT", param_dag_id=DAG_ID))])
def file(key: Text) -> RedirectResponse:
    """Lead to a published package, by a link that the store signs for minutes: for those who may edit the DAG alone."""
    site = _settings()
    return RedirectResponse(ReportStoreHook(container_url=site.container, staging_url=site.staging).sign(key))


def _is_person(request: Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _run_ids(request: RequestStatus, batches: Sequence[BatchStatus]) -> set[str]:
    """Return the runs that had to do with a request."""
    return {run for run in (request.run_id, request.claim_run_id, *(batch.run_id for batch in batches)) if run}


def _settings() -> Settings:
    return parse_settings(Variable.get(VARIABLE, default=None))


def _hook(site: Settings) -> RequestStatusHook:
    """Return the hook; raises SetupError where the API server does not have the connection."""
    hook = RequestStatusHook(job_request_table=site.job_request_table, ledger_schema=site.ledger_schema)
    try:
        _ = hook.connection
    except AirflowNotFoundException:
        raise SetupError(
            f"The API server has no connection {hook.default_conn_name}: add it under Admin, Connections, or set "
            f"AIRFLOW_CONN_{hook.default_conn_name.upper()} in the API server's environment, too"
        ) from None
    return hook


def _may(user: Any, method: Any, what: DagAccessEntity) -> bool:
    """Tell whether the user may do this to the DAG: the very question that Airflow's REST API asks."""
    details = DagDetails(id=DAG_ID, team_name=DagModel.get_team_name(DAG_ID))
    return get_auth_manager().is_authorized_dag(method=method, access_entity=what, details=details, user=user)


def _page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    airflow = request.scope["app_root_path"]
    values |= {"root": request.scope["root_path"], "airflow": airflow, "dag": f"{airflow}/dags/{DAG_ID}"}
    return HTMLResponse(templates.get_template(template).render(values), status)
