"""Send one message per failed run, with an Airflow notifier that the site chooses (docs/how-to/monitor.md).

It is the callback of the DAG, not of a task. Airflow calls it once per failed run, in the dag processor. It is also called
if tasks were killed.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from airflow.sdk import BaseNotifier, Variable
from airflow.sdk.module_loading import import_string  # type: ignore[attr-defined]  # Airflow does not list it in __all__

from progress_exhaust.airflow_names import conf
from progress_exhaust.hooks.requests.models import BatchState, ClaimOutcome
from progress_exhaust.names import INSTALLATION_VARIABLE, REPORT_DAG_ID
from progress_exhaust.settings import VARIABLE, parse_settings
from progress_exhaust.stages.site_setup import Site

ENVIRONMENT = "PROGRESS_EXHAUST_FAILURE_NOTIFIER"
EXAMPLE = '{"class": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "arguments": {"to": "…"}}'

log = logging.getLogger(__name__)


def failure_callback(text: str | None) -> tuple[Callable[[Any], None] | None, str]:
    """Return the callback for the notifier that the text describes, and an error for the DAG's page.

    A mistake in the text does not stop the DAG: reports are more important than messages.
    """
    if not text:
        return None, ""
    try:
        _notifier(text)
    except Exception as error:
        message = (
            f"No message is sent for failed runs, because {ENVIRONMENT} is not valid: {type(error).__name__}: {error}. "
            f"Example: {EXAMPLE}"
        )
        log.error(message)
        return None, f"**{message}**\n\n"
    return lambda context: notify(text, context), ""


def notify(text: str, context: Any) -> None:
    """Send the message of a failed run. Templates may use {{ failure }}, {{ run_id }} and {{ run_url }}."""
    run_id = context["run_id"]
    url = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{REPORT_DAG_ID}/runs/{run_id}"
    _notifier(text)({**context, "failure": f"{failure_summary(run_id)}. {url}", "run_url": url})


def failure_summary(run_id: str) -> str:
    """Return what failed, as counts and ids only. If Postgres does not answer, return only that the run failed."""
    summary = f"Run {run_id} of {REPORT_DAG_ID} failed"
    try:
        settings = parse_settings(Variable.get(VARIABLE, default=None))
        site = Site(settings, run_id, installation=Variable.get(INSTALLATION_VARIABLE, default=""))
        outcomes, batches = site.claims().outcomes(), site.ledger().run_batches()
    except Exception as error:
        log.warning("The message has no numbers of requests and batches, because they cannot be read: %s", type(error).__name__)
        return summary
    failed = [run for run in batches if run.state not in (BatchState.DONE, BatchState.DEFERRED)]
    found = sum(number for outcome, number in outcomes.items() if outcome != "duplicate")
    return f"{summary}: {outcomes[ClaimOutcome.FAILED]} of {found} requests, {len(failed)} of {len(batches)} batches"


def _notifier(text: str) -> Callable[[Any], None]:
    values: Mapping[str, Any] = json.loads(text)
    unknown = set(values) - {"class", "arguments"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]}")
    notifier_class = import_string(values["class"])
    if not (isinstance(notifier_class, type) and issubclass(notifier_class, BaseNotifier)):
        raise TypeError(f"{values['class']} is not an Airflow notifier")
    return notifier_class(**values.get("arguments", {}))
