"""What extract counts, as texts: the learners that are excluded from a report, as `excluded.<reason>`, and what is unusual
about its scores and contents.
"""

from progress_exhaust.report.eligibility import Exclusion

NOT_ENROLLED = {  # these are not counted in `enrolled` either
    Exclusion.INACTIVE: "with an inactive enrolment",
    Exclusion.NO_DATE: "with an enrolment that has no date",
}
EXCLUDED = {
    Exclusion.OTHER_ORG: "of another organisation than the requester's",
    Exclusion.UNKNOWN_ORG: "of an unknown organisation",
    Exclusion.DELETED: "with a deleted account",
    Exclusion.MISSING: "without a known profile",
    **NOT_ENROLLED,
}

CONTENT_COUNTS = {
    "blank_user_fields": "fields of learners that the source of users does not have (blank cells)",
    "scores_from_aggregates": "scores from the aggregates",
    "attempts_of_removed_contents": "attempts of contents that are no longer in the collection (no column)",
    "removed_contents_completed": "completed contents that are no longer in the collection",
}
