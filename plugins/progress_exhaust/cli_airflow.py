"""What the commands read from Airflow: the settings of the Variable, and the id of the installation."""

import argparse
import io
import os
from collections.abc import Callable
from contextlib import redirect_stdout

from progress_exhaust.errors import SetupError
from progress_exhaust.names import INSTALLATION_VARIABLE
from progress_exhaust.settings import VARIABLE, Settings, parse_settings


def with_settings(command: Callable[[argparse.Namespace, Settings], int]) -> Callable[[argparse.Namespace], int]:
    """Return the command, which gets the settings of the Variable, and reports a missing connection."""

    def run(parsed: argparse.Namespace) -> int:
        use_airflow()
        from progress_exhaust.airflow_names import AirflowNotFoundException

        try:
            return command(parsed, read_settings())
        except AirflowNotFoundException as error:
            raise SetupError(f"{error}. Add the connection in Airflow, or set its AIRFLOW_CONN_… here") from None

    return run


def use_airflow() -> None:
    """Let this process read Airflow's database: outside a task, only a process of this kind may."""
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def read_settings() -> Settings:
    return parse_settings(read_variable(VARIABLE))


def read_installation() -> str:
    """Return the id of this installation; empty if no run has created it, or if there is no Airflow here."""
    return read_variable(INSTALLATION_VARIABLE) or ""


def read_variable(name: str) -> str | None:
    """Return a Variable of Airflow; None if it is not set, or if there is no Airflow here."""
    from airflow.sdk import Variable

    with redirect_stdout(io.StringIO()):  # where there is no Airflow, it prints a traceback and answers "not found"
        value: str | None = Variable.get(name, default=None)
        return value
