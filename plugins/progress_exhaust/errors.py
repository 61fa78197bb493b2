"""The errors of this package, by who can fix them.

ProgressExhaustError
├── RequestError   permanent error of a request or batch: it asks for something that cannot be made
├── RequestDeletedError  the row of the request was deleted while a run made it
├── SetupError     permanent error of the installation: an engineer must fix a setting, connection, table or column
├── OverLimitError a limit was reached: the batch waits for a later run
├── ConflictError  the state of a request does not allow what a person wants
├── InputError     a file or an option that a user gave to a command is not valid
├── SourceError    transient error: a system did not answer as it should, and Airflow retries the task
└── ClaimLostError another run holds the request, or a newer attempt of the task has started: write and publish nothing
    └── RequestCancelledError  a person has cancelled the request while a run made it

A message says what happened, to which object, and what to do. It contains no data of a learner and no secret. The
requester reads the message of a RequestError. Therefore it names no internals of the platform.
"""


class ProgressExhaustError(Exception):
    """Base of all errors of this package."""


class RequestError(ProgressExhaustError):
    """The request or batch asks for something that cannot be made."""


class RequestDeletedError(ProgressExhaustError):
    """The row of the request was deleted while a run made it."""


class OverLimitError(ProgressExhaustError):
    """A limit was reached, and the batch waits for a later run.

    :param deferred_bytes: the size of its package
    """

    def __init__(self, message: str, deferred_bytes: int) -> None:
        super().__init__(message)
        self.deferred_bytes = deferred_bytes


class SetupError(ProgressExhaustError):
    """The installation is not set up correctly."""


class ConflictError(ProgressExhaustError):
    """The state of a request does not allow what a person wants."""


class InputError(ProgressExhaustError):
    """A file or an option of a command is not valid."""


class SourceError(ProgressExhaustError):
    """A system did not answer as it should."""


class ClaimLostError(ProgressExhaustError):
    """Another run holds the request, or a newer attempt of the task has started."""


class RequestCancelledError(ClaimLostError):
    """A person has cancelled the request while a run made it."""
