"""Links in Airflow's UI to the page of this package: from the tasks in the grid, and from the DAG's own page.

Airflow stores a link in XCom. It is an address of our own page, and holds no secret.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from progress_exhaust.airflow_names import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

from progress_exhaust.docs_links import link_docs

PAGE = "/progress-exhaust"


class RequestLink(BaseOperatorLink):
    """Link from a stage to its request on the page, or to its run if there is no request."""

    name = "Request"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        batch: Any = operator.batch  # type: ignore[attr-defined]
        if batch["request_id"]:
            return _page_url("/request", tag=batch["tag"], request_id=batch["request_id"])
        return _page_url("/request", run_id=ti_key.run_id)


class FileLink(BaseOperatorLink):
    """Link to the published file. The page checks the user's rights, then signs a link of the store for a few minutes."""

    name = "File"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:  # noqa: ARG002  # Airflow passes it
        summary: Any = XCom.get_value(ti_key=ti_key, key="return_value")
        return _page_url("/file", key=summary["key"]) if summary else ""


def _page_url(path: str, **query: str) -> str:
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}{PAGE}{path}?{urlencode(query)}"


def with_links(text: str) -> str:
    """Return the Markdown of a DAG's page, with links to the page of this package (PAGE) and to the docs."""
    return link_docs(text).replace("PAGE", PAGE)
