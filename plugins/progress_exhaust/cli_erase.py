"""The command `erase`: find the packages that contain a learner, and delete them or have them made again.

The id of the learner is learner data: nothing that this command prints, logs or stores has it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from progress_exhaust import cli_output as output
from progress_exhaust.cli_airflow import read_installation, with_settings
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.errors import InputError, ProgressExhaustError
from progress_exhaust.report.request import is_id
from progress_exhaust.settings import Settings

if TYPE_CHECKING:
    from progress_exhaust.erase.erasure import ErasedPackage

MAX_REFERENCE_CHARACTERS = 200


def add_command(commands: output.Commands) -> None:
    """Add the command to the parser."""
    erase = output.add_command(
        commands,
        "erase",
        "list the packages that contain a learner; with --apply, erase the learner from them",
        [
            "progress-exhaust erase - < USER_FILE",
            "progress-exhaust erase - --apply --reference DPO-2026-17 < USER_FILE",
            "progress-exhaust erase - --key-file PASSWORD_FILE < USER_FILE",
        ],
    )
    erase.add_argument(
        "user",
        metavar="USER",
        help="user id of the learner; better -, which reads it from standard input: other users of the machine see arguments",
    )
    erase.add_argument(
        "--delete", action="store_true", help="only delete the packages. Without it, the next run makes them again"
    )
    erase.add_argument("--apply", action="store_true", help="change something. Without it, this is a dry run")
    erase.add_argument(
        "--reference",
        metavar="TEXT",
        help="number of the demand for erasure, for Airflow's audit log. --apply needs it. It must not name the learner",
    )
    erase.add_argument(
        "--key-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="file with a password, the text of a request, or an org's private key (PEM), which may open protected packages. You "
        "can give several",
    )
    erase.set_defaults(command=with_settings(lambda parsed, settings: erase_learner(parsed, settings, read_installation())))


def erase_learner(parsed: argparse.Namespace, settings: Settings, installation: str) -> int:
    """Print what becomes of each package that contains the learner. Return NO if one remains, or is not sure to be without.

    Raises InputError if the user id, the reference or a key file is not valid.
    """
    from progress_exhaust.erase.erasure import Erasure
    from progress_exhaust.reading.report_file import read_key
    from progress_exhaust.stages.site_setup import Site

    user_id = sys.stdin.readline().strip() if parsed.user == "-" else parsed.user
    if not is_id(user_id):
        raise InputError("The user id is not valid: it may contain letters, digits, '-', '_' and '.' only")
    with output.printing_to_stderr():  # Airflow and the clients of the stores log to standard output
        erasure = Erasure(
            Site(settings, run_id="erase", installation=installation),
            user_id,
            [read_key(file) for file in parsed.key_file],
            make_again=not parsed.delete,
            reference=_reference(parsed, user_id),
        )
        found: list[ErasedPackage] = []
        try:
            for package in erasure.run():
                found.append(package)
        except ProgressExhaustError:
            _print(found, applied=parsed.apply)
            raise
    left = [package for package in found if not package.is_done]
    without_ids = _layouts_without_ids(settings)
    status = ExitStatus.NO if left or without_ids else ExitStatus.YES
    if parsed.json:
        facts = {"applied": parsed.apply, "read": erasure.read, "protected_not_enrolled": erasure.not_opened, "left": len(left)}
        facts |= {"layouts_without_user_id": without_ids}
        output.print_json({"packages": [asdict(package) for package in found]} | facts)
        return status
    _print(found, applied=parsed.apply)
    if without_ids:
        output.print_line(
            f"Layouts without the field user_id: {', '.join(without_ids)}. No id shows who is in their packages: search them for "
            "the name"
        )
    output.print_line(
        f"packages read={erasure.read} with_the_learner={len(found)} left={len(left)} protected_not_enrolled={erasure.not_opened}"
    )
    return status


def _layouts_without_ids(settings: Settings) -> list[str]:
    """Return the layouts of the site whose reports have no user id."""
    names = sorted({settings.layout, *settings.layouts})
    return [name for name in names if all(column.field != "user_id" for column in settings.layout_named(name).columns)]


def _print(found: "Sequence[ErasedPackage]", *, applied: bool) -> None:
    if found:
        rows = [(one.package, one.found_by, _result(one, applied=applied), ", ".join(one.requests)) for one in found]
        output.print_table(("PACKAGE", "FOUND BY", "RESULT", "REQUESTS"), rows)
    if not applied and found:
        output.print_line("This was a dry run. --apply with --reference changes something")
    if any(one.action == "make_again" and one.is_done for one in found):
        output.print_line("The next run makes these packages again. A learner who still has an enrolment is in them again")


def _result(package: "ErasedPackage", *, applied: bool) -> str:
    if package.note:
        return package.note
    words = {"make_again": "deleted, and made again by the next run", "delete": "deleted"}[package.action]
    return words if applied else f"would be {words}"


def _reference(parsed: argparse.Namespace, user_id: str) -> str | None:
    """Return the reference for the audit log; None for a dry run."""
    if not parsed.apply:
        return None
    reference = (parsed.reference or "").strip()
    if not reference or len(reference) > MAX_REFERENCE_CHARACTERS:
        raise InputError(
            f"--apply needs --reference: the number of the demand for erasure, of 1 to {MAX_REFERENCE_CHARACTERS} characters"
        )
    if user_id.lower() in reference.lower():
        raise InputError("--reference has the id of the learner. Give a number of the demand that does not name the learner")
    return reference
