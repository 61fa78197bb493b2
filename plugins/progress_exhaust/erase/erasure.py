"""Erase a learner from the published packages: find those that contain the learner, and delete them or have them made again.

Two steps for each package, so that a rerun after a kill ends in the same state. First, its requests no longer list it, and are
SUBMITTED again if it is made again. Then the file is deleted. A package that no request lists is only deleted.
"""

import getpass
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from progress_exhaust import compat
from progress_exhaust.erase.search import Content, LearnerSearch
from progress_exhaust.errors import SetupError
from progress_exhaust.names import REPORT_DAG_ID
from progress_exhaust.report.request import batch_of_package
from progress_exhaust.stages.site_setup import Site

if TYPE_CHECKING:
    from progress_exhaust.hooks.cassandra.tables import LearnerTablesHook

AUDIT_EVENT = "progress_exhaust_erase"
NO_KEY = "its key is not among those given, and the ledger does not know its batch: give the key, or delete the file"
NOT_READABLE = "the file is damaged or not finished: look at it, or delete it"


class FoundBy(StrEnum):
    """How it is known that a package contains the learner."""

    FILE = "file"  # the package was read
    ENROLMENT = "enrolment"  # it is protected, and the learner has an enrolment in its batch
    UNKNOWN = "unknown"  # nothing shows whether it contains the learner


class Action(StrEnum):
    """What is done about a package."""

    MAKE_AGAIN = "make_again"
    DELETE = "delete"
    NONE = "none"


@dataclass(frozen=True)
class ErasedPackage:
    """A package that contains the learner, or may."""

    package: str
    found_by: FoundBy
    action: Action
    requests: tuple[str, ...] = ()  # that list it
    is_done: bool = False
    note: str = ""  # why it is not done


class Erasure:
    """The erasure of one learner. It keeps no learner data but the id, which it does not show.

    :param keys: that may open protected packages
    :param make_again: whether the next run makes the packages again
    :param reference: of the demand for erasure, for Airflow's audit log; None for a dry run, which changes nothing
    """

    def __init__(self, site: Site, user_id: str, keys: Sequence[str], *, make_again: bool, reference: str | None) -> None:
        self._site = replace(site, dry_run=reference is None)
        self._store, self._packages = self._site.store(), self._site.packages()
        self._user_id, self._search = user_id, LearnerSearch(user_id, keys)
        self._make_again, self._reference = make_again, reference
        self.read = 0  # packages
        self.not_opened = 0  # protected packages of batches in which the learner has no enrolment

    def run(self) -> Iterator[ErasedPackage]:
        """Yield what becomes of each package that contains the learner, or may; the others are only counted."""
        with self._site.learner_tables() as tables:
            for package in self._store.packages():
                batch = batch_of_package(package.name)
                if batch and (found := self._find(package.name, batch[1], tables)):
                    yield self._erase(package.name, *found)

    def _find(self, package: str, batch_id: str, tables: "LearnerTablesHook") -> tuple[FoundBy, str] | None:
        """Return how the learner was found in a package, and why not for sure; None if the learner is not in it."""
        with self._store.open_package(package) as opened:
            content = self._search.content(opened) if opened else Content.WITHOUT_LEARNER
        self.read += 1
        if content is Content.HAS_LEARNER:
            return FoundBy.FILE, ""
        if content is Content.DAMAGED:
            return FoundBy.UNKNOWN, NOT_READABLE
        if content is Content.PROTECTED:
            collections = self._packages.collections(package)
            if not collections:
                return FoundBy.UNKNOWN, NO_KEY
            if any(tables.is_enrolled(self._user_id, collection_id, batch_id) for collection_id in collections):
                return FoundBy.ENROLMENT, ""
            self.not_opened += 1
        return None

    def _erase(self, package: str, found_by: FoundBy, note: str) -> ErasedPackage:
        if found_by is FoundBy.UNKNOWN:
            return ErasedPackage(package, found_by, Action.NONE, note=note)
        with self._packages.lock(package) as locked:
            requests = tuple(request_id for _, request_id in (listing.key for listing in locked.listings))
            action = Action.MAKE_AGAIN if self._make_again and requests else Action.DELETE
            result = ErasedPackage(package, found_by, action, requests, note=_not_now(locked.busy))
            if locked.busy or self._reference is None:
                return result
            self._audit(result)
            locked.unlist(make_again=self._make_again)
        with self._packages.lock(package) as locked:
            if locked.busy or locked.listings:  # a run was faster: it makes the package again, or has
                return replace(result, note=_not_now(locked.busy or "a run has made it again"))
            self._store.delete_package(package)
        return replace(result, is_done=True)

    def _audit(self, package: ErasedPackage) -> None:
        """Add an entry to Airflow's audit log before anything changes. It has nothing of the learner."""
        entry = {"package": package.package, "action": package.action, "reference": self._reference}
        try:
            compat.write_audit_entry(AUDIT_EVENT, REPORT_DAG_ID, getpass.getuser(), json.dumps(entry))
        except Exception as error:
            raise SetupError(
                f"The audit log of Airflow cannot be written ({type(error).__name__}). Without it, nothing is erased. Run the "
                "command where Airflow's database can be reached"
            ) from None


def _not_now(busy: str | None) -> str:
    return f"{busy}: run the command again later" if busy else ""
