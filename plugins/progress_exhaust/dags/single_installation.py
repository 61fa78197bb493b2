"""Find a second copy of this package: the wheel and the plugins folder may both have one."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

from progress_exhaust.errors import SetupError

PACKAGE = "progress_exhaust"


def check_single_installation() -> None:
    """Raise SetupError if Python can find this package in two folders.

    Which of them a process imports depends on the order of its `sys.path`, so two processes could run two versions.
    """
    folders = find_installations()
    if len(folders) > 1:
        raise SetupError(
            f"The package progress_exhaust is installed more than once: {', '.join(map(str, folders))}. "
            "Keep one: uninstall the wheel (pip uninstall progress-exhaust), or remove the folder from the plugins folder"
        )


def find_installations() -> list[Path]:
    """Return the folders of this package on `sys.path`, each once, in the order in which Python looks.

    The DAG file of the report has the name of the package, and Airflow puts the DAG folder on `sys.path`. It is not a package.
    """
    specs = (PathFinder.find_spec(PACKAGE, [entry]) for entry in sys.path)
    folders = (folder for spec in specs if spec for folder in spec.submodule_search_locations or ())
    return list(dict.fromkeys(Path(folder).resolve() for folder in folders))
