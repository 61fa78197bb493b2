"""The routes of the page. Each but the static files needs Airflow's login and the right to read the DAG.

The routes here change nothing: those of `changes.py` do. The other buttons call Airflow's REST API from the browser, as the user
who is logged in. So Airflow checks the user's rights and writes its audit log.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated
from urllib.parse import urlencode

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk import Variable
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse

from progress_exhaust.errors import ConflictError, ProgressExhaustError
from progress_exhaust.hooks.report_store import ReportStoreHook
from progress_exhaust.hooks.requests.models import RequestStatus
from progress_exhaust.hooks.requests.status import BatchDetails, RequestDetails, RequestStatusReader
from progress_exhaust.names import ENDED_RUN_STATES, INSTALLATION_VARIABLE
from progress_exhaust.page import changes
from progress_exhaust.page.access import MissingRightError, audit, check_connection, is_allowed, needs
from progress_exhaust.page.actions import first_run_id, may_be_cancelled, rerun_failed
from progress_exhaust.page.airflow_runs import find_map_indexes, find_new_runs, find_runs, find_task_states, find_tasks
from progress_exhaust.page.batch_tasks import retried_task
from progress_exhaust.page.causes import group_causes
from progress_exhaust.page.charts import make_charts
from progress_exhaust.page.rendering import FOLDER, render
from progress_exhaust.page.request_view import RequestView, make_view
from progress_exhaust.page.search import Search, Text, page_numbers
from progress_exhaust.page.timeline import make_timeline
from progress_exhaust.settings import VARIABLE, Settings, parse_settings

STATIC_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
REQUESTS_PER_PAGE = 50
NIGHTS = 30
HEADERS = {
    # The page loads everything from its own address, and Airflow shows it in a frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MESSAGES = {
    401: "You are not logged in, or your session has expired. Log in to Airflow.",
    404: "There is no such page or request.",
}

app = FastAPI(title="Progress exhaust", docs_url=None, redoc_url=None, openapi_url=None)
pages = APIRouter(dependencies=[Depends(needs("GET"))])


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


@app.exception_handler(HTTPException)
@app.exception_handler(404)  # the router raises its own error for an unknown address
async def show_http_error(request: Request, error: HTTPException) -> Response:
    """Return a page to a browser, and Airflow's own answer to a program; the status is the same."""
    if not _is_browser(request):
        return await http_exception_handler(request, error)
    # Airflow answers 403 for a token that is not valid.
    status = 401 if error.status_code == 403 and not isinstance(error, MissingRightError) else error.status_code
    return _message_page(request, error.status_code, MESSAGES.get(status, str(error.detail)), with_login=status == 401)


@app.exception_handler(RequestValidationError)
async def show_invalid_query(request: Request, error: RequestValidationError) -> Response:
    """Name the fields and the mistakes. FastAPI's own answer has the values, too: some of them are not valid JSON."""
    mistakes = "; ".join(f"{mistake['loc'][-1]}: {mistake['msg']}" for mistake in error.errors())
    if not _is_browser(request):
        return JSONResponse({"detail": mistakes}, 422)
    return _message_page(request, 422, f"The address of this page is not valid. {mistakes}")


@app.exception_handler(ProgressExhaustError)
async def show_own_error(request: Request, error: ProgressExhaustError) -> Response:
    status = 409 if isinstance(error, ConflictError) else 503
    if not _is_browser(request):
        return JSONResponse({"detail": str(error)}, status)
    return _message_page(request, status, str(error))


@app.get("/static/{name}")
def static(name: str) -> FileResponse:
    if name not in STATIC_FILES:
        raise HTTPException(404, "Not Found")
    return FileResponse(FOLDER / "static" / name, media_type=STATIC_FILES[name])


@pages.get("/")
def list_page(request: Request, user: GetUserDep, search: Annotated[Search, Query()]) -> HTMLResponse:
    """Show the requests that match, a page of them. Without a search, show the charts of the last nights, too.

    The page refreshes itself with `fragment`. Then there are no charts: they take the longest to compute.
    """
    settings = _settings()
    reader = _reader(settings)
    skip = REQUESTS_PER_PAGE * (search.page - 1)
    found, total = reader.requests(search.filter, most=REQUESTS_PER_PAGE, skip=skip, order=search.sorting)
    batches = reader.batches(found)
    runs = find_runs(run_id for details in found for run_id in _run_ids(details, batches[details.key]))
    active = [run_id for run_id, run in runs.items() if run.state not in ENDED_RUN_STATES]
    map_indexes, task_states = (find_map_indexes(active), find_task_states(active)) if active else ({}, {})
    with_charts = not (search.fragment or search.query())
    may_trigger = is_allowed(user, "POST", DagAccessEntity.RUN)
    views = [make_view(details, batches[details.key], runs, map_indexes, task_states) for details in found]
    page_count = max(1, -(-total // REQUESTS_PER_PAGE))
    return render(
        request,
        "list.html",
        views=_with_new_runs(views) if may_trigger else views,
        total=total,
        pages=page_count,
        page_links=page_numbers(search.page, page_count),
        search=search,
        statuses=[status.value for status in RequestStatus],
        tallies={tally.status: tally for tally in reader.tally()},
        charts=make_charts(reader.nights(NIGHTS, settings.report_timezone)) if with_charts else [],
        zone=settings.report_timezone,
        may_trigger=may_trigger,
    )


@pages.get("/request")
def request_page(request: Request, user: GetUserDep, tag: Text = "", request_id: Text = "", run_id: Text = "") -> HTMLResponse:
    """Show one request and its batches, or the batches of one standalone run."""
    reader = _reader(_settings())
    details = reader.request(tag, request_id, run_id)
    if details is None:
        raise HTTPException(404, "There is no such request")
    batches = reader.batches([details])[details.key]
    run_ids = _run_ids(details, batches)
    map_indexes = find_map_indexes(run_ids)
    view = make_view(details, batches, find_runs(run_ids), map_indexes, find_task_states(run_ids))
    tasks = find_tasks({key: index for key, index in map_indexes.items() if key[1:3] == (details.tag, details.request_id)})
    may_trigger = is_allowed(user, "POST", DagAccessEntity.RUN)
    return render(
        request,
        "request.html",
        view=_with_new_runs([view])[0] if may_trigger else view,
        timeline=make_timeline(view, reader.claims(tag, request_id), tasks),
        causes=group_causes(view.batches),
        retried={one.batch.batch_id: task for one in view.batches if (task := retried_task(one, tasks))},
        reruns=rerun_failed(view.batches, tasks),
        may_be_cancelled=may_be_cancelled(view),
        may_trigger=may_trigger,
        may_clear=is_allowed(user, "PUT", DagAccessEntity.TASK_INSTANCE),
        may_edit=is_allowed(user, "PUT"),
    )


@pages.get("/file", dependencies=[Depends(needs("PUT"))])
def file(user: GetUserDep, key: Text) -> RedirectResponse:
    """Redirect to a published package. The store signs the link for a few minutes. Only users who may edit the DAG get it."""
    audit(user, "progress_exhaust_file", key=key)
    settings = _settings()
    store = ReportStoreHook(container_url=settings.reports_container_url, staging_url=settings.staging_url)
    return RedirectResponse(store.sign(key))


def _is_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _message_page(request: Request, status: int, message: str, *, with_login: bool = False) -> HTMLResponse:
    """Return a page with a message; `with_login`: and a link to Airflow's login, which comes back to this address."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    login = f"{request.scope['app_root_path']}/api/v2/auth/login?{urlencode({'next': here})}" if with_login else None
    return render(request, "message.html", status, message=message, login=login)


def _with_new_runs(views: Sequence[RequestView]) -> list[RequestView]:
    """Add to the finished requests the run that makes each of them again."""
    ids = {view.request.key: first_run_id(view.request) for view in views if view.finished}
    new_runs = find_new_runs(ids.values())
    return [replace(view, new_run=new_runs.get(ids.get(view.request.key, ""))) for view in views]


def _run_ids(request: RequestDetails, batches: Sequence[BatchDetails]) -> set[str]:
    """Return the runs of this installation that have processed a request."""
    claim_run_id = request.claim_run_id if request.is_ours else None
    run_ids: Iterable[str | None] = (request.run_id, claim_run_id, *(batch.run_id for batch in batches if batch.is_ours))
    return {run_id for run_id in run_ids if run_id}


def _settings() -> Settings:
    return parse_settings(Variable.get(VARIABLE, default=None))


def _reader(settings: Settings) -> RequestStatusReader:
    reader = RequestStatusReader(
        job_request_table=settings.job_request_table,
        ledger_schema=settings.ledger_schema,
        installation=Variable.get(INSTALLATION_VARIABLE, default=""),
    )
    check_connection(reader)
    return reader


app.include_router(pages)
app.include_router(changes.routes)
