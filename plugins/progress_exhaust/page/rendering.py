"""Render the templates of the page."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from progress_exhaust.docs_links import docs_page, is_url
from progress_exhaust.hooks.requests.models import RequestStatus
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.page import next_steps
from progress_exhaust.page.formatting import format_duration, format_size
from progress_exhaust.report.request import MAX_FAILURES
from progress_exhaust.security.levels import Level

FOLDER = Path(__file__).parent
STATUS_LABELS = {
    RequestStatus.SUBMITTED.value: "Waiting",
    RequestStatus.PROCESSING.value: "In progress",
    RequestStatus.SUCCESS.value: "Ready",
    RequestStatus.FAILED.value: "Failed",
}

templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.globals |= {"next_step": next_steps.next_step, "why_no_batches": next_steps.why_no_batches}
templates.filters |= {
    "duration": format_duration,
    "size": format_size,
    "number": "{:,.0f}".format,
    "segment": lambda text: quote(text, safe=""),
    "timestamp": "{:%Y-%m-%d %H:%M} UTC".format,
}

PROTECTIONS = {
    str(Level.PLAIN): "not protected: a zip of the report",
    str(Level.PASSWORD): "a zip with a password: the text that was given with the request",
    str(Level.TEXT_KEY): "a zip of a report that is encrypted with the text that was given with the request",
    str(Level.PUBLIC_KEY): "a zip of a report that is encrypted for the private key of the org",
}


def find_help(page: str = "reference/page") -> str:
    """Return the address of a page of the docs, by default of this page's; empty if a browser cannot open it."""
    address = docs_page(page)
    return address if is_url(address) else ""


templates.globals |= {
    "status_labels": STATUS_LABELS,
    "dag_id": REPORT_DAG_ID,
    "max_failures": MAX_FAILURES,
    "find_help": find_help,
    "docs_page": docs_page,
    "protections": PROTECTIONS,
}


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; add the addresses that every template needs."""
    airflow = request.scope["app_root_path"]
    values |= {"root": request.scope["root_path"], "airflow": airflow, "dag": f"{airflow}/dags/{REPORT_DAG_ID}"}
    return HTMLResponse(templates.get_template(template).render(values), status)
