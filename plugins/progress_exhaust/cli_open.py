"""The command `open`: unpack and decrypt a report. It needs no Airflow."""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from progress_exhaust import cli_output as output
from progress_exhaust.cli_output import ExitStatus
from progress_exhaust.errors import InputError

KEY_VARIABLE = "PROGRESS_EXHAUST_KEY"


def add_command(commands: output.Commands) -> None:
    """Add the command to the parser."""
    parser = output.add_command(
        commands,
        "open",
        "unpack and decrypt a report",
        [
            "progress-exhaust open 0133_progress_20220927.zip --key-file password.txt",
            "progress-exhaust open 0133_progress_20220927.zip --key-file private.pem --to reports",
        ],
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="package of a report, or the encrypted file in it")
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="KEY",
        help="file with the password, the text of the request, or the private key (PEM) that opens FILE. Without it, the "
        f"environment variable {KEY_VARIABLE}",
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="folder for the clear files. Without it, FILE without its ending"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that the folder already has")
    parser.set_defaults(command=open_file)


def open_file(parsed: argparse.Namespace) -> int:
    """Write the clear files of a report into a folder, and print their names. Return YES.

    Raises InputError if the file or its key is not valid, SetupError if the folder cannot be written.
    """
    from progress_exhaust.reading.report_file import ReportFile, read_key
    from progress_exhaust.reading.unpacking import unpack

    key = read_key(parsed.key_file) if parsed.key_file else os.environ.get(KEY_VARIABLE)
    name = parsed.file.name or str(parsed.file)  # the folders . and / have no name
    if not parsed.to and not parsed.file.suffix:
        raise InputError(f"{name} has no ending. Choose a folder by --to")
    folder: Path = parsed.to or parsed.file.with_suffix("")
    report = ReportFile(name, parsed.file, key, key_source=f"--key-file or {KEY_VARIABLE}")
    files = unpack(report, folder, overwrite=parsed.overwrite)
    if parsed.json:
        output.print_json({"folder": str(folder), "files": [asdict(file) for file in files]})
    else:
        rows = [(str(folder / file.name), f"{file.size_bytes:,}", file.protection) for file in files]
        output.print_table(("CLEAR FILE", "BYTES", "WAS"), rows)
    return ExitStatus.YES
