"""What can go wrong, by who can mend it.

ProgressExhaustError
├── RequestError   the request itself: no retry helps; the request is FAILED in these words
├── SetupError     the site: a setting, connection, table or column; an engineer mends it, no retry does
├── OverLimitError the batch has to wait for the next run; nothing is wrong
├── SourceError    a system that does not answer as it should; Airflow retries the task
└── ClaimLostError another run holds the request, or a newer attempt of the task has started: stop, publish nothing

A message says what, where and what to do. It holds no learner data and no secret; a RequestError's is read by the
requester and therefore names no internals either.
"""


class ProgressExhaustError(Exception):
    """Any error of this package."""


class RequestError(ProgressExhaustError):
    """The request can never be met as it stands."""


class OverLimitError(ProgressExhaustError):
    """The batch waits for the next run."""


class SetupError(ProgressExhaustError):
    """The site is not set up for the work."""


class SourceError(ProgressExhaustError):
    """A source did not answer as it should."""


class ClaimLostError(ProgressExhaustError):
    """Another run holds the request, or a newer attempt of the task has started."""
