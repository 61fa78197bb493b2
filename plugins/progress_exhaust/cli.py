"""The command line for engineers: a check of the installation, requests and batches, a test request, the release of a claim.

    progress-exhaust check | status [REQUEST] | why BATCH | init-requests | submit … | release REQUEST | erase USER |
        compare OLD NEW | open FILE

It needs plugins/ on PYTHONPATH and Airflow's configuration. It reads the connection `progress_exhaust_requests` and the
Variable as a task does. `erase` also reads the store. `compare` and `open` only use files. No command shows data of a learner,
unless an option asks for it.
"""

import argparse
import sys
from collections.abc import Sequence

from progress_exhaust import cli_check, cli_compare, cli_erase, cli_open, cli_requests, cli_status
from progress_exhaust import cli_output as output
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.errors import InputError, ProgressExhaustError, RequestError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except (InputError, RequestError) as error:
        output.print_error(str(error))
        return ExitStatus.INVALID_INPUT
    except ProgressExhaustError as error:
        output.print_error(str(error))
        return ExitStatus.NOT_WORKING


def _parser() -> argparse.ArgumentParser:
    summary = "Requests for progress reports, for engineers"
    parser: argparse.ArgumentParser = output.Parser(prog=output.PROGRAM, description=summary)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cli_check.add_command(commands)
    cli_status.add_commands(commands)
    cli_requests.add_commands(commands)
    cli_erase.add_command(commands)
    cli_compare.add_command(commands)
    cli_open.add_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
