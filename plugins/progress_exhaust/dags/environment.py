"""What the DAG files read from the environment: Airflow parses them, and may not read a Variable then."""

import os
from typing import Any

from progress_exhaust.errors import SetupError


def number(name: str, default: float, minimum: float = 0) -> float:
    """Return the number in a variable of the environment.

    :raises SetupError: the text is not a number of at least `minimum`
    """
    text = os.environ.get(name, "")
    try:
        found = float(text or default)
    except ValueError:
        found = float("nan")
    if not minimum <= found < float("inf"):
        raise SetupError(
            f"{name} must be a number, {minimum} or more, and is {text!r}. Correct it in the environment of Airflow's servers"
        )
    return found


def task_defaults(**defaults: Any) -> dict[str, Any]:
    """Return the arguments of every task of a DAG, with the queue and the executor of this site.

    Airflow reports an executor that it does not have.
    """
    names = {"queue": "PROGRESS_EXHAUST_QUEUE", "executor": "PROGRESS_EXHAUST_EXECUTOR"}
    return defaults | {argument: os.environ[name] for argument, name in names.items() if os.environ.get(name)}
