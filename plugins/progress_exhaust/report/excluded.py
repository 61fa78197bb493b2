"""Why learners are excluded from a report, as texts. Extract counts each reason as `excluded.<reason>`."""

from progress_exhaust.report.eligibility import Exclusion

NOT_ENROLLED = {  # these are not counted in `enrolled` either
    Exclusion.INACTIVE: "with an inactive enrolment",
    Exclusion.NO_DATE: "with an enrolment that has no date",
}
EXCLUDED = {
    Exclusion.OTHER_ORG: "of another organisation than the requester's",
    Exclusion.DELETED: "with a deleted account",
    Exclusion.MISSING: "without a known profile",
    **NOT_ENROLLED,
}
