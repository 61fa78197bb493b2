"""Tells people of a failed run: one message, by an Airflow notifier that the site has chosen (docs/signals.md).

The DAG's own callback and no task's: Airflow calls it once for each run that has failed, whichever tasks did, and where a task
was killed too. It is called in the dag processor.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import BaseNotifier, Variable
from airflow.sdk.configuration import conf
from airflow.sdk.module_loading import import_string

from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.settings import VARIABLE, parse_settings
from progress_exhaust.stages.site import Site

ENVIRONMENT = "PROGRESS_EXHAUST_FAILURE_NOTIFIER"
EXAMPLE = '{"class": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "arguments": {"to": "…"}}'

log = logging.getLogger(__name__)


def failure_callback(text: str | None) -> tuple[Callable[[Any], None] | None, str]:
    """Return the DAG's callback for the notifier that the text names, and what is wrong with it, for the DAG's page.

    A notifier that cannot be made never keeps the DAG from running: it is the reports that people wait for.
    """
    if not text:
        return None, ""
    try:
        _notifier(text)
    except Exception as error:
        words = f"Nobody is told of failed runs: {ENVIRONMENT} must be like {EXAMPLE}: {type(error).__name__}: {error}"
        log.error(words)
        return None, f"**{words}**\n\n"
    return lambda context: tell(text, context), ""


def tell(text: str, context: Any) -> None:
    """Send the one message of a failed run; the notifier's templates may use {{ failure }}, {{ run_id }}, {{ run_url }}."""
    run_id = context["run_id"]
    url = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{REPORT_DAG_ID}/runs/{run_id}"
    _notifier(text)({**context, "failure": f"{in_words(run_id)}. {url}", "run_url": url})


def in_words(run_id: str) -> str:
    """Say what failed, in counts and ids alone; the ledger's part is left out where Postgres is what failed."""
    words = f"Run {run_id} of {REPORT_DAG_ID} failed"
    try:
        requests = Site(parse_settings(Variable.get(VARIABLE, default=None)), run_id).requests()
        outcomes, batches = requests.outcomes(), requests.run_batches()
    except Exception as error:
        log.warning("The message says nothing of requests and batches: %s", type(error).__name__)
        return words
    failed = [run for run in batches if run.state not in ("done", "deferred")]
    asked = sum(number for outcome, number in outcomes.items() if outcome != "duplicate")
    return f"{words}: {outcomes['FAILED']} of {asked} requests, {len(failed)} of {len(batches)} batches"


def _notifier(text: str) -> Callable[[Any], None]:
    chosen: Mapping[str, Any] = json.loads(text)
    unknown = set(chosen) - {"class", "arguments"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]}")
    found = import_string(chosen["class"])
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise TypeError(f"{chosen['class']} is no Airflow notifier")
    return found(**chosen.get("arguments", {}))
