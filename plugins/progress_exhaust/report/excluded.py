"""Why learners are excluded from a report: the reasons that extract counts as `excluded.<reason>`, as texts."""

NOT_ENROLLED = {  # these are not counted in `enrolled` either
    "inactive": "with an inactive enrolment",
    "no_date": "with an enrolment that has no date",
}
EXCLUDED = {
    "other_org": "of another organisation than the requester's",
    "unknown_org": "of an unknown organisation",
    "deleted": "with a deleted account",
    "missing": "without a known profile",
    **NOT_ENROLLED,
}
