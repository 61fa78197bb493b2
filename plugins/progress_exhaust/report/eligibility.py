"""Who is in the report: the rules of the specification's section "Who is in it"."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

User = Mapping[str, str]  # the fields of a user, as the user cache calls them

ORG_FIELDS = ("rootorgid", "status")  # fields of the user cache that decide who is in the report
DELETED = "2"  # a user's status


class Exclusion(StrEnum):
    """Why a learner is not in the report."""

    INACTIVE = "inactive"  # the enrolment is not active; not counted as enrolled
    NO_DATE = "no_date"  # the enrolment has no date; not counted as enrolled
    OTHER_ORG = "other_org"  # a learner of another organisation than the requester's
    UNKNOWN_ORG = "unknown_org"  # the user cache does not have the learner's organisation
    DELETED = "deleted"  # the account is deleted
    MISSING = "missing"  # the user cache does not have the learner

    @property
    def count_name(self) -> str:
        """Return the key under which the excluded learners are counted."""
        return f"excluded.{self}"


OF_ENROLMENT = (Exclusion.INACTIVE, Exclusion.NO_DATE)  # the other reasons are of the learner


def enrolment_exclusion(
    active: bool | None,
    enrolled_at: int | None,
    enrolled_text: str | None,
    *,
    keeps_blank_dates: bool = False,
    with_inactive: bool = False,
) -> Exclusion | None:
    """Return why an enrolment does not count; None if it does: an active one with a date.

    :param keeps_blank_dates: an empty or blank text counts as a date
    :param with_inactive: inactive ones with a date count too
    """
    if not (active or with_inactive):
        return Exclusion.INACTIVE
    has_text = enrolled_text is not None and (keeps_blank_dates or bool(enrolled_text.strip()))
    has_date = enrolled_at is not None or has_text
    return None if has_date else Exclusion.NO_DATE


@dataclass(frozen=True)
class Eligibility:
    """Which enrolled learners are in the report of one batch."""

    owned: bool  # the requester's organisation owns the batch
    channel: str  # of the requester
    cached_only: bool = False  # exclude learners whom the user cache does not have, even if the batch is owned

    def exclusion(self, user: User | None) -> Exclusion | None:
        """Return why an enrolled learner is not in the report; None if the learner is.

        :param user: what the user cache has; None if it does not have the learner
        """
        if user is None:
            return Exclusion.MISSING if self.cached_only or not self.owned else None
        if self.owned:
            return None
        org = user.get("rootorgid")
        if not org:
            return Exclusion.UNKNOWN_ORG
        if org != self.channel:
            return Exclusion.OTHER_ORG
        return Exclusion.DELETED if user.get("status") == DELETED else None


def no_exclusions(of_enrolment: bool) -> dict[str, int]:
    """Return the count 0 for each reason: of the enrolment, or of the learner."""
    return {reason.count_name: 0 for reason in Exclusion if (reason in OF_ENROLMENT) is of_enrolment}


def shown_fields(user: User | None) -> User:
    """Return the fields that the report may show: none of a deleted account."""
    return {} if user is None or user.get("status") == DELETED else user


def count_missing_fields(user: User | None, fields: Iterable[str]) -> int:
    """Return how many of these fields a known learner lacks; 0 for a deleted account."""
    return 0 if user is None or user.get("status") == DELETED else sum(field not in user for field in fields)


def is_cache_flushed(*, enrolled: int, missing: int, max_missing_percent: float) -> bool:
    """Return whether so many learners are missing from the user cache that it was probably flushed. Small batches never are."""
    return enrolled > 100 and missing * 100 > max_missing_percent * enrolled
