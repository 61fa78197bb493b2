"""What a run from here is about to claim, for a person who runs it against other systems than those of the demo."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from dev.services import ServiceError
from dev.services import Settings as ServiceSettings

CONNECTION = "AIRFLOW_CONN_PROGRESS_EXHAUST_REQUESTS"


def uses_the_demo() -> bool:
    """Tell whether the requests are those of the demo's Postgres in this clone."""
    uri = urlsplit(os.environ.get(CONNECTION, ""))
    try:
        port = ServiceSettings.from_environment().port("postgres")
    except ServiceError:  # it was never started
        return False
    return (uri.hostname, uri.port) == ("127.0.0.1", port)


def print_preview(conf: Mapping[str, Any]) -> None:
    """Print how many requests a run with these Params may claim, the age of the oldest, and from which database."""
    # Outside a task, Airflow reads connections and Variables from its database only in a process of this kind.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow.sdk import Variable

    from progress_exhaust.hooks.requests.models import Selection
    from progress_exhaust.settings import VARIABLE, parse_settings
    from progress_exhaust.stages.site_setup import Site

    if conf.get("batch_ids"):
        return
    settings, now = parse_settings(Variable.get(VARIABLE, default=None)), datetime.now(UTC)
    site = Site(settings, run_id="", dry_run=True)  # a dry run changes nothing
    site.ledger().prepare()  # it checks the tables
    claims = site.claims()
    selection = Selection(
        most=settings.batches_per_run,
        day=now.date(),
        abandoned_before=now - timedelta(hours=settings.abandoned_processing_hours),
        request_ids=conf.get("request_ids") or (),
        batch_number=settings.batch_number,
        channels=settings.channels,
        force=bool(conf.get("force")),
    )
    requests = min(claims.count_pending(selection), selection.most)
    oldest_hours = claims.oldest_pending_seconds(selection) / 3600
    connection = claims.connection
    verb = "would claim" if conf.get("dry_run") else "claims"
    print(
        f"These are not the systems of the demo. This run {verb} {requests} requests of "
        f"{settings.job_request_table} in database {connection.schema} at {connection.host}:{connection.port or 5432}. "
        f"The oldest pending request waits for {oldest_hours:.1f} h",
        flush=True,
    )
    if conf.get("release_claims"):
        for holder in site.releases().holders(conf.get("request_ids") or ()):
            print(f"Request {holder.request_id} is held by {holder}", flush=True)
