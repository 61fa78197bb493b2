"""Why a learner is left out of a report: the reasons that extract counts as `excluded.<reason>`, in words."""

NOT_ENROLLED = {  # these are not counted in `enrolled` either
    "inactive": "whose enrolment is not active",
    "no_date": "whose enrolment has no date",
}
LEFT_OUT = {
    "other_org": "of another organisation than the one that asked",
    "deleted": "whose account is deleted",
    "missing": "whose profile is not known",
    **NOT_ENROLLED,
}
