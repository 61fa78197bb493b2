"""Links of the tasks in Airflow's grid. Airflow keeps them in XCom: they are addresses of our own page, and hold no secret."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PAGE = "/progress-exhaust"


class RequestLink(BaseOperatorLink):
    """Leads from a stage to its request on the page, or to its run where there is no request."""

    name = "Request"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        batch: Any = operator.batch  # type: ignore[attr-defined]
        if batch["request_id"]:
            return _address("/request", tag=batch["tag"], request_id=batch["request_id"])
        return _address("/request", run_id=ti_key.run_id)


class FileLink(BaseOperatorLink):
    """Leads to the published file, through the page: it asks who is there, then signs the store's link for minutes."""

    name = "File"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        key: str | None = operator.key  # type: ignore[attr-defined]
        return _address("/file", key=key) if key else ""


def _address(path: str, **query: str) -> str:
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}{PAGE}{path}?{urlencode(query)}"
