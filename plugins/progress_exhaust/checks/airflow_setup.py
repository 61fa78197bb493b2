"""Check what belongs to Airflow and the machine: the Variable, the pool, the salt and the disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from progress_exhaust import compat
from progress_exhaust.checks.findings import Result, failed, passed, warned
from progress_exhaust.errors import ProgressExhaustError, RequestError
from progress_exhaust.hooks.salt import read_salt
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.settings import VARIABLE, Settings, parse_settings
from progress_exhaust.stages.scratch import scratch_folder
from progress_exhaust.stages.site_setup import Site

POOL = os.environ.get("PROGRESS_EXHAUST_POOL", REPORT_DAG_ID)  # as the DAG reads it
# A batch of a million learners needs 600 MB (docs/how-to/size-your-installation.md), and two or more run at a time.
FEW_BYTES, TOO_FEW_BYTES = 2 * 2**30, 100 * 2**20


def check_variable(text: str | None) -> Iterator[Result]:
    """Check the text of the Variable; None if Airflow does not have it."""
    if text is None or not text.strip():
        yield warned(f"The Variable {VARIABLE} is not set here: every setting has its default")
        return
    parse_settings(text)
    yield passed("valid")


def check_pool() -> Iterator[Result]:
    """Check the pool of the stages. Only a process that reads Airflow's database sees it."""
    try:
        slots = compat.find_pool_slots(POOL)
    except Exception as error:
        yield warned(f"Airflow's database cannot be read here ({type(error).__name__}). Check the pool under Admin, Pools")
        return
    if slots is None:
        yield failed(f"There is no pool {POOL}: Airflow starts no stage. Add it under Admin, Pools, with 4 slots")
    elif slots == 0:
        yield failed(f"The pool {POOL} has 0 slots: Airflow starts no stage. Give it 4 slots under Admin, Pools")
    else:
        yield passed(f"slots={slots}")


def check_salt(site: Site) -> Iterator[Result]:
    """Check that the salt decrypts the keys of the newest requests."""
    from progress_exhaust.security.salt import requester_key

    salt = read_salt()
    try:
        stored = site.inspection().newest_encryption_keys()
    except ProgressExhaustError:  # the check of the database reports it
        stored = []
    readable = 0
    for key in stored:
        try:
            readable += requester_key(key, site.settings.platform_encryption_key, salt) is not None
        except RequestError:
            continue
    if stored and not readable:
        yield failed(
            f"The salt decrypts none of the keys of the newest requests: keys={len(stored)}. Compare the password of the "
            "connection with the platform's sunbird_encryption_key"
        )
    elif salt is None:
        yield warned("There is no salt: a request with an encrypted key fails. Add it, unless your platform stores keys in clear")
    else:
        yield passed(
            f"it decrypts keys of the newest requests: keys={readable}"
            if stored
            else "set, and no request has a key to test it with"
        )


def check_disk(settings: Settings) -> Iterator[Result]:
    """Check that the temporary folder and the folders of a local store have space."""
    with ExitStack() as stack, scratch_folder(stack) as folder:
        (folder / "probe").write_bytes(b"x" * 2**16)
        yield free_space("TMPDIR", tempfile.gettempdir(), shutil.disk_usage(folder).free)
    for name in ("reports_container_url", "staging_url"):
        url = urlsplit(getattr(settings, name))
        if url.scheme == "file" and Path(url.path).exists():
            yield free_space(name, url.path, shutil.disk_usage(url.path).free)


def free_space(name: str, folder: str, free_bytes: int) -> Result:
    """Judge the free space of a folder."""
    text = f"{name}={folder} free_gb={free_bytes / 2**30:.1f}"
    if free_bytes < TOO_FEW_BYTES:
        return failed(f"{text}: reports fail. Free space there, or name another folder")
    if free_bytes < FEW_BYTES:
        return warned(f"{text}: large batches may fail. Free space there, or name another folder")
    return passed(text)
