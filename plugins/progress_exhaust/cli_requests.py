"""The commands that change requests: `submit`, `release` and `init-requests`."""

import argparse
import json
import uuid
from typing import TYPE_CHECKING

from progress_exhaust import cli_output as output
from progress_exhaust.cli_airflow import read_installation, with_settings
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.errors import RequestError
from progress_exhaust.hooks.requests.models import RequestStatus
from progress_exhaust.report.request import is_id, is_path_part, parse_request_data
from progress_exhaust.settings import Settings

if TYPE_CHECKING:
    from progress_exhaust.hooks.requests.models import Holder
    from progress_exhaust.hooks.requests.releases import Releases


def add_commands(commands: output.Commands) -> None:
    """Add the commands to the parser."""
    create = output.add_command(
        commands,
        "init-requests",
        "create the table of requests, where the platform has none",
        ["progress-exhaust init-requests", "progress-exhaust init-requests --yes"],
    )
    create.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    create.set_defaults(command=with_settings(create_request_table))
    submit = output.add_command(
        commands,
        "submit",
        "submit a test request, which the next run makes",
        [
            "progress-exhaust submit --batches 013307481768378368112 --channel 0126796199493140480",
            "progress-exhaust submit --course do_31307361357558579212 --channel 0126796199493140480",
        ],
    )
    wanted = submit.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--batches", nargs="+", metavar="BATCH", help="batch ids")
    wanted.add_argument("--course", help="collection id: all its batches")
    submit.add_argument(
        "--channel", required=True, help="id of the requesting org. For a batch of another org, it gets its own learners only"
    )
    submit.add_argument("--by", default="operator", help="user id of the requester")
    submit.set_defaults(command=with_settings(submit_request))
    release = output.add_command(
        commands,
        "release",
        "release a request that another installation holds, so that this one claims it",
        ["progress-exhaust release 778A3669531143769B5E8C98D42E1CAD"],
    )
    release.add_argument("request", metavar="REQUEST", help="request_id")
    release.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    release.set_defaults(command=with_settings(release_request))


def create_request_table(parsed: argparse.Namespace, settings: Settings) -> int:
    """Create the table of requests. An existing one is not changed: then return NO."""
    from progress_exhaust.hooks.requests.request_table import RequestTable

    table: RequestTable = RequestTable(job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema)
    statements = table.statements()
    if statements and not parsed.json:
        output.print_line(f"On {table.where()}:")
        for line in statements.splitlines():
            output.print_line(line)
    if statements and not (parsed.yes or output.confirm("Create the table?")):
        output.print_error("It is not created")
        return ExitStatus.NO
    if not table.create():
        output.print_error(f"The table {settings.job_request_table} exists already. It is not changed")
        return ExitStatus.NO
    if parsed.json:
        output.print_json({"created": settings.job_request_table})
    else:
        output.print_line("Created. Now give each login its rights: docs/grants/ledger.sql, postgres.sql and operators.sql")
    return ExitStatus.YES


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
    if parsed.json:
        output.print_json({"request_id": request_id, "status": RequestStatus.SUBMITTED})
    else:
        text = f"{RequestStatus.SUBMITTED}: the next run takes it. `status {request_id}` shows its state"
        output.print_line(f"{request_id}  {text}")
    return ExitStatus.YES


def release_request(parsed: argparse.Namespace, settings: Settings) -> int:
    """Release the claims of other installations on a request, and of runs that this Airflow no longer has."""
    from progress_exhaust.hooks.requests.releases import Releases

    releases: Releases = Releases(
        job_request_table=settings.job_request_table, ledger_schema=settings.ledger_schema, installation=read_installation()
    )
    holders = releases.holders([parsed.request])
    errors = {holder: _release(releases, holder, asks=not parsed.yes, quiet=parsed.json) for holder in holders}
    if parsed.json:
        claims = [
            {
                "request_id": holder.request_id,
                "tag": holder.tag,
                "installation": holder.installation,
                "run_id": holder.run_id,
                "released": error is None,
                "error": error,
            }
            for holder, error in errors.items()
        ]
        output.print_json({"claims": claims})
    for error in errors.values() if holders else [f"No run holds request {parsed.request}"]:
        if error:
            output.print_error(error)
    return ExitStatus.YES if holders and not any(errors.values()) else ExitStatus.NO


def _release(releases: "Releases", holder: "Holder", *, asks: bool, quiet: bool) -> str | None:
    """Release a claim; return why it is not released, or None."""
    from progress_exhaust.page.airflow_runs import find_runs

    if not quiet:
        output.print_line(f"Request {holder.request_id} (tag {holder.tag}) is held by {holder}")
    if holder.is_ours and find_runs([holder.run_id]):
        return f"Airflow has the run {holder.run_id}. Mark it as failed in Airflow: the next run claims the request"
    if asks and not output.confirm(f"Release it from run {holder.run_id}? That run publishes nothing more for it."):
        return "It is not released"
    if not releases.release(holder):
        return "Not released: its run publishes a file now, or has just ended. Try again later"
    if not quiet:
        output.print_line(f"Released: the request is {RequestStatus.SUBMITTED}, and the next run that may claim it takes it")
    return None
