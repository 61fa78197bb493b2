"""Links of the tasks in Airflow's grid. Airflow keeps them in XCom: they are addresses of our own page, without secrets."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

PAGE = "/progress-exhaust"


class RequestLink(BaseOperatorLink):
    """Link a stage to its request on the page, or to its run if there is no request."""

    name = "Request"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        batch: Any = operator.batch  # type: ignore[attr-defined]
        if batch["request_id"]:
            return _address("/request", tag=batch["tag"], request_id=batch["request_id"])
        return _address("/request", run_id=ti_key.run_id)


class FileLink(BaseOperatorLink):
    """Link mark_complete to the published file. The page checks the user, then redirects to a link that the store signs."""

    name = "File"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        summary: Any = XCom.get_value(ti_key=ti_key, key="return_value")
        return _address("/file", key=summary["key"]) if summary else ""


def _address(path: str, **query: str) -> str:
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}{PAGE}{path}?{urlencode(query)}"
