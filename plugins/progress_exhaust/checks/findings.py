"""What a check finds, and how checks run: each has a time limit, and none hides another."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from threading import Thread
from typing import NamedTuple

from progress_exhaust.airflow_names import AirflowFailException
from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.security.tls import Tls
from progress_exhaust.stages.base_operator import fail_on_permanent_errors

TIME_LIMIT_SECONDS = 60  # of one check
NO_ONE = "progress-exhaust-checks-rights"  # the id of a learner, a batch, a collection and an org that do not exist


class Level(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARNING = "warning"  # reports are made, but you should know it
    ERROR = "error"  # some or all reports fail


class Result(NamedTuple):
    """The level of a finding, and its text: what is so, and what to do."""

    level: Level
    text: str


class Finding(NamedTuple):
    """One line of the table.

    :param check: what was checked
    :param where: the connection, Variable or setting that it is about
    """

    level: Level
    check: str
    where: str
    text: str


class Check(NamedTuple):
    """A check with its name and place.

    :param find: yields one finding or more. If it raises, the error is a finding
    """

    name: str
    where: str
    find: Callable[[], Iterator[Finding]]


def passed(text: str) -> Result:
    return Result(Level.OK, text)


def warned(text: str) -> Result:
    return Result(Level.WARNING, text)


def failed(text: str) -> Result:
    return Result(Level.ERROR, text)


def guarded(check: str, where: str, find: Callable[[], Iterable[Result]]) -> Iterator[Finding]:
    """Yield what a part of a check finds. An error ends this part only, and is a finding, too."""
    try:
        with fail_on_permanent_errors():
            for result in find():
                yield Finding(result.level, check, where, result.text)
    except Exception as error:
        yield Finding(Level.ERROR, check, where, _describe_error(error).text)


def run_checks(checks: Sequence[Check], limit_seconds: float = TIME_LIMIT_SECONDS) -> Iterator[Finding]:
    """Run the checks one after another, each in a thread: no timeout of a client ends everything that can hang."""
    for check in checks:
        found: list[Finding] = []
        thread = Thread(target=_collect, args=(check, found), daemon=True)
        thread.start()
        thread.join(limit_seconds)
        is_late = thread.is_alive()
        yield from list(found)
        if is_late:
            late = failed(f"No answer in {limit_seconds:g} s. Check the address, the firewall and the load of the server")
            yield Finding(late.level, check.name, check.where, late.text)


def _collect(check: Check, found: list[Finding]) -> None:
    try:
        with fail_on_permanent_errors():
            found.extend(check.find())
    except Exception as error:
        found.append(Finding(Level.ERROR, check.name, check.where, _describe_error(error).text))


def _describe_error(error: Exception) -> Result:
    if isinstance(error, AirflowFailException):
        return failed(str(error).splitlines()[0])  # the SQL of the ledger follows
    if isinstance(error, ProgressExhaustError):
        return failed(f"{str(error).rstrip('.')}. Bring it up, or fix the address and the login of its connection")
    # The text of another error may have a secret or data of a learner.
    return failed(f"The check itself failed: {type(error).__name__}. Report it to the authors of this package")


def format_levels(findings: Iterable[Finding]) -> str:
    """Return how many findings have each level."""
    counts = Counter(finding.level for finding in findings)
    return " ".join(f"{level}={counts[level]}" for level in Level)


def describe_tls(tls: Tls) -> Result:
    """Return whether a connection is protected on its way."""
    if tls.is_encrypted and tls.is_verified:
        return passed("TLS, and the certificate is checked")
    if not tls.leaves_the_machine:
        return passed("the server is on this machine")
    if tls.is_encrypted:
        return warned("TLS, but the certificate or its name is not checked. See docs/how-to/protect-connections.md")
    return warned("No TLS: others in the network can read it. See docs/how-to/protect-connections.md")
