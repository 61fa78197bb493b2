"""The command line for engineers: a check of the installation, requests and batches, a test request, the release of a claim.

    progress-exhaust check | status [REQUEST] | why BATCH | init-requests | submit … | release REQUEST | erase USER |
        compare OLD NEW | open FILE

It needs plugins/ on PYTHONPATH and Airflow's configuration. It reads the connection `progress_exhaust_requests` and the
Variable as a task does. `erase` also reads the store. `compare` and `open` only read files. No command shows data of a learner,
unless an option asks for it.
"""

import argparse
import io
import json
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from progress_exhaust import cli_compare, cli_erase, cli_open
from progress_exhaust import cli_output as output
from progress_exhaust.errors import InputError, ProgressExhaustError, RequestError
from progress_exhaust.hooks.requests.models import RequestStatus
from progress_exhaust.names import INSTALLATION_VARIABLE
from progress_exhaust.report.request import MAX_FAILURES, is_id, is_path_part, parse_request_data
from progress_exhaust.settings import VARIABLE, Settings, parse_settings

if TYPE_CHECKING:
    from progress_exhaust.page.request_view import RequestView

MAX_LISTED = 50
NOT_FOUND, INVALID_INPUT, NOT_WORKING = 1, 2, 3  # exit statuses
NOT_DONE = 1
CHECK_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except (InputError, RequestError) as error:
        return _error(str(error), INVALID_INPUT)
    except ProgressExhaustError as error:
        return _error(str(error), NOT_WORKING)


def _with_settings(command: Callable[[argparse.Namespace, Settings], int]) -> Callable[[argparse.Namespace], int]:
    """Return the command, which gets the settings of the Variable, and reports a missing connection."""

    def run(parsed: argparse.Namespace) -> int:
        _use_airflow()
        from progress_exhaust.airflow_names import AirflowNotFoundException

        try:
            return command(parsed, _settings())
        except AirflowNotFoundException as error:
            return _error(f"{error}. Add the connection in Airflow, or set its AIRFLOW_CONN_… here", NOT_WORKING)

    return run


def _use_airflow() -> None:
    """Let this process read Airflow's database: outside a task, only a process of this kind may."""
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="progress-exhaust", description="Requests for progress reports, for engineers")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="check every connection, right, table and store; it changes nothing")
    check.add_argument("--json", action="store_true", help="print JSON for a script")
    check.set_defaults(command=check_installation)
    status = commands.add_parser("status", help="list the newest requests, or show one request and its batches")
    status.add_argument("request", nargs="?", metavar="REQUEST", help="request_id, or its first characters")
    status.set_defaults(command=_with_settings(show_status))
    why = commands.add_parser("why", help="show a batch in each request for it: its state, and why")
    why.add_argument("batch", metavar="BATCH", help="batch id")
    why.set_defaults(command=_with_settings(show_why))
    create = commands.add_parser("init-requests", help="create the table of requests, where the platform has none")
    create.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    create.set_defaults(command=_with_settings(create_request_table))
    submit = commands.add_parser("submit", help="submit a test request, which the next run makes")
    wanted = submit.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--batches", nargs="+", metavar="BATCH", help="batch ids")
    wanted.add_argument("--course", help="collection id: all its batches")
    submit.add_argument(
        "--channel", required=True, help="id of the requesting org. For a batch of another org, it gets its own learners only"
    )
    submit.add_argument("--by", default="operator", help="user id of the requester")
    submit.set_defaults(command=_with_settings(submit_request))
    release = commands.add_parser("release", help="release a request that another installation holds, so that this one claims it")
    release.add_argument("request", metavar="REQUEST", help="request_id")
    release.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    release.set_defaults(command=_with_settings(release_request))
    erase = cli_erase.add_command(commands)
    erase.set_defaults(command=_with_settings(lambda words, settings: cli_erase.erase_learner(words, settings, _installation())))
    cli_compare.add_command(commands)
    cli_open.add_command(commands)
    return parser


def check_installation(parsed: argparse.Namespace) -> int:
    """Check the installation; return CHECK_FAILED if a report could not be made. Wrong settings are a finding, too."""
    _use_airflow()
    from airflow.sdk import Variable

    from progress_exhaust.checks.findings import Level, format_levels, run_checks
    from progress_exhaust.checks.installation import all_checks

    with redirect_stdout(io.StringIO()):  # where there is no Airflow, it prints a traceback and answers "not found"
        variable = Variable.get(VARIABLE, default=None)
    with output.printing_to_stderr():  # Airflow logs to standard output
        findings = list(run_checks(all_checks(variable, sees_pools=True)))
    if parsed.json:
        output.print_line(json.dumps([finding._asdict() for finding in findings]))
    else:
        output.print_table(("LEVEL", "CHECK", "WHERE", "RESULT, AND WHAT TO DO"), findings)
        output.print_line(format_levels(findings))
    return CHECK_FAILED if any(finding.level is Level.ERROR for finding in findings) else 0


def show_status(parsed: argparse.Namespace, settings: Settings) -> int:
    """List the newest requests, or show the requests whose id starts with the given text."""
    views, total = _find_requests(settings, request=parsed.request or "")
    if parsed.request and not views:
        return _error(f"There is no request {parsed.request}", NOT_FOUND)
    rows = [
        (
            view.request.request_id or view.request.run_id,
            view.request.status or "none",
            output.age(view.request.submitted_at),
            f"{view.done} of {view.total}",
            f"{view.request.failures} of {MAX_FAILURES}",
            _last_run(view),
            view.request.channel or "",
        )
        for view in views
    ]
    output.print_table(("REQUEST", "STATUS", "AGE", "BATCHES", "FAILURES", "LAST RUN", "CHANNEL"), rows)
    if parsed.request:
        for view in views:
            output.print_request(view, view.batches)
    _print_limit(total)
    return 0


def _last_run(view: "RequestView") -> str:
    run_id = view.request.claim_run_id or view.request.run_id or "none"
    return f"{run_id} (another installation)" if view.held_elsewhere else run_id


def show_why(parsed: argparse.Namespace, settings: Settings) -> int:
    """Show one batch in each request for it."""
    views, total = _find_requests(settings, batch=parsed.batch)
    if not views:
        return _error(f"No request names batch {parsed.batch}, and no run has listed it", NOT_FOUND)
    for view in views:
        submitted = f", submitted {output.age(view.request.submitted_at)} ago" if view.request.submitted_at else ""
        output.print_line(f"{view.request.request_id or view.request.run_id}  {view.request.status or 'none'}{submitted}")
        output.print_request(
            view, [batch for batch in view.batches if batch.batch.batch_id.lower().startswith(parsed.batch.lower())]
        )
    _print_limit(total)
    return 0


def create_request_table(parsed: argparse.Namespace, settings: Settings) -> int:
    """Create the table of requests. An existing one is not changed: then return NOT_DONE."""
    from progress_exhaust.hooks.requests.request_table import RequestTable

    table: RequestTable = RequestTable(job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema)
    statements = table.statements()
    if statements:
        output.print_line(f"On {table.where()}:")
        for line in statements.splitlines():
            output.print_line(line)
        if not (parsed.yes or output.confirm("Create the table?")):
            return _error("It is not created", NOT_DONE)
    if not table.create():
        return _error(f"The table {settings.job_request_table} exists already. It is not changed", NOT_DONE)
    output.print_line("Created. Now give each login its rights: docs/grants/ledger.sql, postgres.sql and operators.sql")
    return 0


def submit_request(parsed: argparse.Namespace, settings: Settings) -> int:
    """Submit a request for batches, or for all batches of a course."""
    from progress_exhaust.hooks.requests.claims import Claims

    data: dict[str, object]
    if parsed.course is None:
        data = {"batchFilter": parsed.batches}
    elif is_path_part(parsed.course):
        filters = {"identifier": [parsed.course], "status": ["Live"]}
        data = {"searchFilter": {"request": {"filters": filters, "fields": ["identifier", "name", "channel"], "limit": 1}}}
    else:
        raise RequestError("The course id is not valid: it may contain letters, digits, '-', '_' and '.' only")
    text = json.dumps(data)
    if not all(map(is_id, parsed.batches or ())):
        raise RequestError("A batch id is not valid: it may contain letters, digits, '-', '_' and '.' only")
    if len(parse_request_data(text).batch_ids) > settings.batches_per_request:
        raise RequestError(f"A request may name {settings.batches_per_request} batches (setting batches_per_request)")
    if settings.channels and parsed.channel not in settings.channels:
        channels = ", ".join(settings.channels)
        raise RequestError(f"No run takes requests of channel {parsed.channel}: the setting channels allows only {channels}")
    claims: Claims = Claims(job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema)
    request_id = uuid.uuid4().hex.upper()
    claims.submit(
        tag=f"operator:{parsed.channel}",
        request_id=request_id,
        data=text,
        by=parsed.by,
        channel=parsed.channel,
        batch_number=settings.batch_number,
    )
    output.print_line(f"{request_id}  {RequestStatus.SUBMITTED}: the next run takes it. `status {request_id}` shows its state")
    return 0


def release_request(parsed: argparse.Namespace, settings: Settings) -> int:
    """Release the claims of other installations on a request, and of runs that this Airflow no longer has."""
    from progress_exhaust.hooks.requests.releases import Releases
    from progress_exhaust.page.airflow_runs import find_runs

    releases: Releases = Releases(
        job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema, installation=_installation()
    )
    holders = releases.holders([parsed.request])
    if not holders:
        return _error(f"No run holds request {parsed.request}", NOT_FOUND)
    status = 0
    for holder in holders:
        output.print_line(f"Request {holder.request_id} (tag {holder.tag}) is held by {holder}")
        if holder.is_ours and find_runs([holder.run_id]):
            status = _error("Airflow has this run. Mark it as failed in Airflow: the next run claims the request", INVALID_INPUT)
        elif not (parsed.yes or output.confirm("Release it? That run publishes nothing more for it.")):
            status = _error("It is not released", NOT_DONE)
        elif releases.release(holder):
            output.print_line(f"Released: the request is {RequestStatus.SUBMITTED}, and the next run that may claim it takes it")
        else:
            status = _error("Not released: its run publishes a file now, or has just ended. Try again later", NOT_WORKING)
    return status


def _installation() -> str:
    """Return the id of this installation; empty if no run has created it, or if there is no Airflow here."""
    from airflow.sdk import Variable

    with redirect_stdout(io.StringIO()):  # where there is no Airflow, it prints a traceback and answers "not found"
        return str(Variable.get(INSTALLATION_VARIABLE, default=""))


def _settings() -> Settings:
    from airflow.sdk import Variable

    return parse_settings(Variable.get(VARIABLE, default=None))


def _find_requests(settings: Settings, **search: str) -> "tuple[list[RequestView], int]":
    """Return the newest requests of a search with their batches, and the number of all that match.

    The states of runs are missing: this command does not ask Airflow.
    """
    from progress_exhaust.hooks.requests.status import Filter, RequestStatusReader
    from progress_exhaust.page.request_view import make_view

    reader: RequestStatusReader = RequestStatusReader(
        job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema, installation=_installation()
    )
    found, total = reader.requests(Filter(**search), most=MAX_LISTED, skip=0)
    batches = reader.batches(found)
    return [make_view(details, batches[details.key], {}, {}) for details in found], total


def _print_limit(total: int) -> None:
    if total > MAX_LISTED:
        output.print_line(f"These are the newest {MAX_LISTED} of {total}. `status REQUEST` finds any other")


def _error(message: str, status: int) -> int:
    output.print_line(message, sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
