"""What extract counts, as texts: the learners that are excluded from a report, as `excluded.<reason>`, and what is unusual
about its scores and contents.
"""

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

CONTENT_COUNTS = {
    "scores_from_aggregates": "scores from the aggregates, because the attempts were archived",
    "attempts_of_removed_contents": "attempts of contents that are no longer in the collection (no column)",
    "removed_contents_completed": "completed contents that are no longer in the collection",
}
