"""A folder on the worker's own disk."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from progress_exhaust.errors import SourceError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def scratch_folder(stack: ExitStack) -> Iterator[Path]:
    """Yield a temporary folder that is deleted when the stack closes; raises SourceError if the disk is full or missing.

    The block writes to this folder only, so an error of a full disk is about this disk. Any other OSError is about what the
    block reads, and passes through.
    """
    try:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="progress-exhaust-")))
    except OSError as error:
        raise _scratch_error(error) from None
    try:
        yield folder
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise _scratch_error(error) from None


def _scratch_error(error: OSError) -> SourceError:
    where = f" {tempfile.tempdir}" if tempfile.tempdir else ""  # unset if Python has found no usable folder
    return SourceError(
        f"The worker's temporary folder{where}: {type(error).__name__}: {error}. Free space there, or set TMPDIR in the worker's "
        "environment to a folder with enough space"
    )
