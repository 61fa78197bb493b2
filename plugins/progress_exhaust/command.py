"""What engineers ask on the command line: where a request stands, why a batch has no report; and a request to try things with.

    python -m progress_exhaust.command status [REQUEST] | why BATCH | submit …

With plugins/ on PYTHONPATH and Airflow's own configuration: the connection `progress_exhaust_requests` and the Variable are
read as a task reads them. Nothing of a learner is shown.
"""

import argparse
import json
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from progress_exhaust.errors import ProgressExhaustError, RequestError
from progress_exhaust.report.request import MAX_FAILURES, is_path_part, parse_request_data
from progress_exhaust.settings import VARIABLE, Settings, parse_settings

if TYPE_CHECKING:
    from progress_exhaust.hooks.request_status import BatchStatus, RequestStatus

MOST = 50  # requests that a list shows
NOT_FOUND, WRONG_INPUT, OUT_OF_ORDER = 1, 2, 3  # exit statuses
NEXT_STEP = {
    "waiting": "its run has not come to it yet",
    "running": "its run is at work, or was broken off: look at the run's tasks",
    "done": "its file is in the reports container",
    "deferred": "a limit of the settings was reached: the next run makes it",
    "rejected": "no retry can mend it: the request has to ask for something else",
    "failed": "mend what the error says, then clear this stage of the batch with what follows it (docs/runbook.md)",
}


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    asked = _parser().parse_args(words)
    # Outside a task, Airflow looks for connections in its metadata only where it is told that it may.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return int(asked.command(asked, _settings()))
    except RequestError as error:
        return _refuse(str(error), WRONG_INPUT)
    except ProgressExhaustError as error:
        return _refuse(str(error), OUT_OF_ORDER)
    except AirflowNotFoundException as error:
        return _refuse(f"{error}: add the connection in Airflow, or set its AIRFLOW_CONN_… here", OUT_OF_ORDER)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="progress_exhaust", description="Requests for progress reports, for engineers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="the newest requests, or one request and its batches")
    status.add_argument("request", nargs="?", metavar="REQUEST", help="its request_id, or the beginning of it")
    status.set_defaults(command=show_status)
    why = commands.add_parser("why", help="what became of a batch, in each request for it")
    why.add_argument("batch", metavar="BATCH", help="the batch id")
    why.set_defaults(command=show_why)
    submit = commands.add_parser("submit", help="enter a request, for a test; the next run makes it")
    what = submit.add_mutually_exclusive_group(required=True)
    what.add_argument("--batches", nargs="+", metavar="BATCH", help="batch ids")
    what.add_argument("--course", help="collection id: each of its batches")
    submit.add_argument(
        "--channel", required=True, help="id of the org that asks; another org's batch shows it its own learners only"
    )
    submit.add_argument("--by", default="operator", help="user id of who asks")
    submit.set_defaults(command=submit_request)
    return parser


def show_status(asked: argparse.Namespace, settings: Settings) -> int:
    found, total = _requests(settings, request=asked.request or "")
    if asked.request and not found:
        return _refuse(f"There is no request {asked.request}", NOT_FOUND)
    rows = [
        (
            request.request_id or request.run_id,
            request.status or "none",
            _age(request.submitted_at),
            _done(request, batches),
            f"{request.failures} of {MAX_FAILURES}",
            request.claim_run_id or request.run_id or "nobody",
            request.channel or "",
        )
        for request, batches in found
    ]
    _table(("REQUEST", "STATUS", "AGE", "BATCHES", "FAILURES", "LAST RUN", "CHANNEL"), rows)
    if asked.request:
        for request, batches in found:
            _tell(request, batches)
    _tell_of_others(total)
    return 0


def show_why(asked: argparse.Namespace, settings: Settings) -> int:
    found, total = _requests(settings, batch=asked.batch)
    if not found:
        return _refuse(f"No request asks for batch {asked.batch}, and no run has listed it", NOT_FOUND)
    for request, batches in found:
        since = f", submitted {_age(request.submitted_at)} ago" if request.submitted_at else ""
        _say(f"{request.request_id or request.run_id}  {request.status or 'none'}{since}")
        _tell(request, [batch for batch in batches if batch.batch_id == asked.batch])
    _tell_of_others(total)
    return 0


def submit_request(asked: argparse.Namespace, settings: Settings) -> int:
    from progress_exhaust.hooks.job_requests import RequestsHook

    data: dict[str, object]
    if asked.course is None:
        data = {"batchFilter": asked.batches}
    elif is_path_part(asked.course):
        filters = {"identifier": [asked.course], "status": ["Live"]}
        data = {"searchFilter": {"request": {"filters": filters, "fields": ["identifier", "name", "channel"], "limit": 1}}}
    else:
        raise RequestError("The course is not valid: letters, digits, '-', '_' and '.' only")
    text = json.dumps(data)
    wanted = parse_request_data(text)
    if len(wanted.batch_ids) > settings.batches_per_request:
        raise RequestError(f"A request may name {settings.batches_per_request} batches (setting batches_per_request)")
    if settings.channels and asked.channel not in settings.channels:
        raise RequestError(f"No run would take it: the setting channels has {', '.join(settings.channels)}")
    hook = RequestsHook(run_id="", job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema)
    request_id = uuid.uuid4().hex.upper()
    hook.submit(
        tag=f"operator:{asked.channel}",
        request_id=request_id,
        data=text,
        by=asked.by,
        channel=asked.channel,
        batch_number=settings.batch_number,
    )
    _say(f"{request_id}  SUBMITTED: the next run takes it; `status {request_id}` shows it")
    return 0


def _settings() -> Settings:
    from airflow.sdk import Variable

    return parse_settings(Variable.get(VARIABLE, default=None))


def _requests(settings: Settings, **chosen: str) -> "tuple[list[tuple[RequestStatus, list[BatchStatus]]], int]":
    """Return the newest of these requests with their batches, and how many there are in all."""
    from progress_exhaust.hooks.request_status import Filter, RequestStatusHook

    hook: RequestStatusHook = RequestStatusHook(
        job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema
    )
    wanted: Filter = Filter(**chosen)
    found, total = hook.requests(wanted, most=MOST, skip=0)
    batches = hook.batches(found)
    return [(request, batches[request.key]) for request in found], total


def _tell_of_others(total: int) -> None:
    if total > MOST:
        _say(f"The newest {MOST}; `status REQUEST` finds any other")


def _tell(request: "RequestStatus", batches: "Sequence[BatchStatus]") -> None:
    """Print what there is to say of a request, and of these batches of it."""
    from progress_exhaust.page.views import BatchView

    if request.error:
        _say(f"  {request.error}")
    if request.duplicate_of:
        _say(f"  shares the outcome of request {request.duplicate_of}, which asks for the same")
    if not batches:
        _say("  no run has listed its batches yet" if not request.duplicate_of else "")
        return
    _table(
        ("BATCH", "STATE", "STAGE", "LEARNERS", "SECONDS", "RUN"),
        [
            (
                batch.batch_id,
                batch.state,
                batch.stage,
                _learners(batch),
                f"{sum(batch.seconds.values()):.1f}",
                batch.run_id,
            )
            for batch in batches
        ],
        indent="  ",
    )
    for batch in batches:
        said = f": {batch.error}" if batch.error else ""
        _say(f"  {batch.batch_id}{said}")
        for note in BatchView(batch, None).notes:
            _say(f"    {note}")
        _say(f"    {NEXT_STEP.get(batch.state, '')}")


def _learners(batch: "BatchStatus") -> str:
    """Say how many learners are read while the batch is being made, and for how long yet; else how many were reported."""
    from progress_exhaust.page.views import BatchView, in_time

    enrolled = batch.counts.get("enrolled")
    if enrolled is None:
        return ""
    if batch.state != "running":
        return f"{batch.counts.get('reported', 0):,} of {enrolled:,}"
    at_work = BatchView(batch, "running")  # Airflow is not asked: of a run that broke off, this is its last word
    left = f", about {in_time(at_work.seconds_left)} left" if at_work.seconds_left else ""
    return f"{at_work.learners[0]:,} of {enrolled:,} read{left}"


def _done(request: "RequestStatus", batches: "Sequence[BatchStatus]") -> str:
    """Count as the page does."""
    from progress_exhaust.page.views import view

    counted = view(request, batches, {}, {})
    return f"{counted.done} of {counted.total}"


def _age(moment: datetime | None) -> str:
    from progress_exhaust.page.views import in_time

    return in_time(moment and (datetime.now(UTC) - moment).total_seconds())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        _say((indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())


def _say(words: str, file: TextIO | None = None) -> None:
    """Print a line; what a row holds that would steer the terminal, or break the line, is left out of it."""
    print("".join(character if character.isprintable() else " " for character in words), file=file)


def _refuse(words: str, status: int) -> int:
    _say(words, sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
