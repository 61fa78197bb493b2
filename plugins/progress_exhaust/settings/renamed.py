"""The earlier names of settings. An earlier name still works, and logs a warning that gives the new name."""

import logging
from collections.abc import Mapping
from functools import cache

from progress_exhaust.errors import SetupError

NEW_NAMES = {
    "abandoned_after_hours": "abandoned_processing_hours",
    "chosen_attempt": "scored_attempt",
    "column_labels": "dynamic_column_labels",
    "consistency": "cassandra_consistency",
    "container": "reports_container_url",
    "defuse_formulas": "escape_formulas",
    "keys_per_read": "partitions_per_query",
    "learners_per_part": "learners_per_chunk",
    "missing_users_percent": "max_missing_users_percent",
    "org_preferences": "org_policy_source",
    "platform_key": "platform_encryption_key",
    "reads_in_flight": "concurrent_queries",
    "relation_cache_db": "optional_nodes_db",
    "staging": "staging_url",
    "wait_seconds": "wait_for_requests_seconds",
}

log = logging.getLogger(__name__)


def with_new_names(values: Mapping[str, object], variable: str) -> dict[str, object]:
    """Return the settings under their new names; raise SetupError for a setting that has both names."""
    for old, new in NEW_NAMES.items():
        if old in values and new in values:
            raise SetupError(
                f"Variable {variable}: {old} is the earlier name of {new}, and both are set. Remove {old} from the Variable"
            )
    for old in NEW_NAMES.keys() & values.keys():
        _warn(old, variable)
    return {NEW_NAMES.get(name, name): value for name, value in values.items()}


@cache  # once per process, and so once per task
def _warn(old: str, variable: str) -> None:
    log.warning(
        "Variable %s: the setting %s is now called %s. The earlier name still works, but a later version will remove it. "
        "Rename it in the Variable",
        variable, old, NEW_NAMES[old],
    )  # fmt: skip
