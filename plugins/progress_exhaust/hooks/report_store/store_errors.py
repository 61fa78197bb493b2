"""Errors of a store in our own words: SetupError if an engineer must fix something, SourceError if a retry may help."""

from collections.abc import Iterator
from contextlib import contextmanager

from progress_exhaust.errors import ProgressExhaustError, SetupError, SourceError

CONNECTION_ID = "progress_exhaust_store"
# An error of a store's client is an OSError, or its class is from one of these packages.
CLIENT_PACKAGES = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "s3fs"}
WRONG_REGION_CODES = ("AuthorizationHeaderMalformed", "PermanentRedirect")  # of S3


@contextmanager
def translate_store_errors(place: str) -> Iterator[None]:
    """Raise errors of a store as SetupError or SourceError; other errors pass unchanged.

    :param place: the folder that the block works on, for the message
    """
    try:
        yield
    except ProgressExhaustError:
        raise
    except Exception as error:
        translated = _translate(place, error)
        if translated is None:
            raise
        raise translated from None


def _translate(place: str, error: BaseException) -> ProgressExhaustError | None:
    """Return our error; None if the error is not from a store."""
    chain = _causes(error)
    if not any(isinstance(one, OSError) or type(one).__module__.partition(".")[0] in CLIENT_PACKAGES for one in chain):
        return None
    text = (str(chain[-1]).strip().splitlines() or [""])[0].rstrip(".")
    message = f"{place}: {type(chain[-1]).__name__}: {text}"
    statuses = {getattr(one, "status_code", None) or getattr(one, "code", None) for one in chain}
    if any(isinstance(one, PermissionError) for one in chain) or statuses & {401, 403} or text.startswith("Forbidden"):
        return SetupError(
            f"{message}. Let the login of connection {CONNECTION_ID} (for a local folder: the workers' user) list, read, write "
            "and delete there"
        )
    if any(isinstance(one, FileNotFoundError) for one in chain) or 404 in statuses:
        return SetupError(
            f"{message}. Make the bucket, container or folder that is missing, or fix the setting that names it. If only a file "
            "of an earlier stage is missing, clear that stage"
        )
    if any(code in text for code in WRONG_REGION_CODES):
        return SetupError(f"{message}. Set region_name in the extra of connection {CONNECTION_ID}")
    return SourceError(message if "file://" in place else f"{message} (connection {CONNECTION_ID})")


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and its causes. Clients wrap their errors: any of them may show the kind, the innermost says most."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain
