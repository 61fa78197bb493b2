"""What Airflow itself loads of this package, in each of its processes."""

import sys
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from progress_exhaust.operators.links import PAGE, FileLink, RequestLink

# What the stages import, and weighs: a task costs half a CPU-second less where the process that it is forked from has it
# already. Nothing of our own: a new version of the package is to be used by the next task.
MODULES = (
    "airflow.providers.apache.cassandra.hooks.cassandra",
    "airflow.providers.http.hooks.http",
    "airflow.providers.postgres.hooks.postgres",
    "airflow.providers.redis.hooks.redis",
    "pandas",  # Arrow imports it where it is installed
    "pyarrow.compute",
    "pyarrow.parquet",
)
# `airflow scheduler`, for LocalExecutor's sake, and `airflow celery worker`, which loads plugins before it forks only where
# [core] lazy_load_plugins is False.
FORKS_TASKS = ("scheduler", "celery")


async def page(scope: Any, receive: Any, send: Any) -> None:
    """The page's ASGI app, imported at its first request: every process loads this file, and only the API server serves it."""
    from progress_exhaust.page.app import app

    await app(scope, receive, send)


class ProgressExhaustPlugin(AirflowPlugin):
    """Adds the page to the UI, and imports ahead of time where tasks are forked."""

    name = "progress_exhaust"
    fastapi_apps = [{"app": page, "url_prefix": PAGE, "name": "Progress exhaust"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        # Airflow shows it in a frame, at /plugin/progress-exhaust; the address is below its own base.
        {"name": "Progress exhaust", "href": f"{PAGE[1:]}/", "url_route": "progress-exhaust", "destination": "nav"}
    ]
    operator_extra_links = [RequestLink(), FileLink()]  # noqa: RUF012  # as Airflow declares it

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        if sys.argv[1:2] and sys.argv[1] in FORKS_TASKS:
            for module in MODULES:
                import_module(module)
