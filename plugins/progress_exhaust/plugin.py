"""What Airflow itself loads of this package, in each of its processes."""

import sys
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin

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


class ProgressExhaustPlugin(AirflowPlugin):
    """Imports ahead of time where tasks are forked."""

    name = "progress_exhaust"

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        if sys.argv[1:2] and sys.argv[1] in FORKS_TASKS:
            for module in MODULES:
                import_module(module)
