"""The command `check`: every connection, right, table and store."""

import argparse

from progress_exhaust import cli_output as output
from progress_exhaust.cli_airflow import read_variable, use_airflow
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.settings import VARIABLE


def add_command(commands: output.Commands) -> None:
    """Add the command to the parser."""
    check = output.add_command(
        commands,
        "check",
        "check every connection, right, table and store; it changes nothing",
        ["progress-exhaust check", "progress-exhaust check --json"],
    )
    check.set_defaults(command=check_installation)


def check_installation(parsed: argparse.Namespace) -> int:
    """Check the installation; return NO if a report could not be made. Wrong settings are a finding, too."""
    use_airflow()
    from progress_exhaust.checks.findings import Level, format_levels, run_checks
    from progress_exhaust.checks.installation import all_checks

    variable = read_variable(VARIABLE)
    with output.printing_to_stderr():  # Airflow logs to standard output
        findings = list(run_checks(all_checks(variable, sees_pools=True)))
    if parsed.json:
        output.print_json([finding._asdict() for finding in findings])
    else:
        output.print_table(("LEVEL", "CHECK", "WHERE", "RESULT, AND WHAT TO DO"), findings)
        output.print_line(format_levels(findings))
    return ExitStatus.NO if any(finding.level is Level.ERROR for finding in findings) else ExitStatus.YES
