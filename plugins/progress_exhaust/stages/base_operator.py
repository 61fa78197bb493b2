"""The base of every task of this package."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from progress_exhaust.airflow_names import AirflowFailException, AirflowNotFoundException
from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import ClaimLostError, SetupError
from progress_exhaust.stages.site_setup import RunParams, Site, read_site

if TYPE_CHECKING:
    from airflow.sdk import Context


@contextmanager
def fail_on_permanent_errors() -> Iterator[None]:
    """Fail the task without a retry for an error that an engineer must fix; Airflow retries all other errors."""
    try:
        yield
    except (SetupError, ClaimLostError) as error:
        raise AirflowFailException(str(error)) from None
    except AirflowNotFoundException as error:
        connections = docs_page("reference/settings", "connections")
        raise AirflowFailException(f"{error}. Add the connection in Airflow: {connections} lists them all") from None


def needs_operator(error: Exception) -> bool:
    """Tell whether no retry fixes an error, until an engineer corrects the installation."""
    return isinstance(error, (SetupError, AirflowNotFoundException))


class BaseTaskOperator(BaseOperator):
    """A task with the site's settings and the Params of the run; `run` does its work."""

    def execute(self, context: "Context") -> Any:
        from progress_exhaust.hooks.requests.kept_connections import keep_connections

        with fail_on_permanent_errors(), keep_connections():
            return self.run(context, read_site(context), RunParams.of(context))

    def run(self, context: "Context", site: Site, params: RunParams) -> Any:
        """Do the work of the task; the result goes to XCom."""
        raise NotImplementedError
