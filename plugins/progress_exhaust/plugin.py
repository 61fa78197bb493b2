"""The Airflow plugin: Airflow loads this file in each of its processes."""

import sys
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from progress_exhaust.links import PAGE, FileLink, RequestLink

# Large modules that the stages import. If the process that forks a task has imported them, the task takes half a CPU second
# less, and all tasks share their memory. No module of this package is in the list, because the next task must use a new
# version of the package.
PRELOADED_MODULES = (
    "airflow.providers.common.compat.assets",  # these four are Airflow's own, in each task
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.lineage",
    "airflow.providers.apache.cassandra.hooks.cassandra",
    "airflow.providers.http.hooks.http",
    "airflow.providers.postgres.hooks.postgres",
    "airflow.providers.redis.hooks.redis",
    "pandas",  # Arrow imports pandas if it is installed
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "stream_zip",
)
# `airflow scheduler` forks tasks for LocalExecutor. `airflow celery worker` loads plugins before it forks only if
# [core] lazy_load_plugins is False.
COMMANDS_THAT_FORK_TASKS = ("scheduler", "celery")


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Serve the page. Import it at the first request, because only the API server needs it."""
    from progress_exhaust.page.app import app

    await app(scope, receive, send)


class ProgressExhaustPlugin(AirflowPlugin):
    """Add the page and the links to the UI, and import large modules before tasks are forked."""

    name = "progress_exhaust"
    fastapi_apps = [{"app": page, "url_prefix": PAGE, "name": "Progress exhaust"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        # Airflow shows the page in a frame, at /plugin/progress-exhaust. The address is below Airflow's own base URL.
        {"name": "Progress exhaust", "href": f"{PAGE[1:]}/", "url_route": "progress-exhaust", "destination": "nav"}
    ]
    operator_extra_links = [RequestLink(), FileLink()]  # noqa: RUF012  # as Airflow declares it

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        if sys.argv[1:2] and sys.argv[1] in COMMANDS_THAT_FORK_TASKS:
            for module in PRELOADED_MODULES:
                import_module(module)
