"""Airflow's names that the tests use and that versions have in different modules."""

try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk import CronTriggerTimetable
    from airflow.sdk.exceptions import ParamValidationError
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 3.1
    from airflow.exceptions import ParamValidationError
    from airflow.models.dagbag import DagBag
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    from airflow.timetables.trigger import CronTriggerTimetable

try:
    from airflow.sdk.log import redact
except ImportError:  # Airflow 3.1.0
    from airflow.sdk._shared.secrets_masker import redact

__all__ = ["CronTriggerTimetable", "DagBag", "DagSerialization", "ParamValidationError", "initialize_metrics", "redact"]


def initialize_metrics() -> None:
    """Prepare Airflow's metrics as a task's own process does."""
    try:
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils
    except ImportError:
        return  # Airflow 3.1 does it when the first metric is sent
    if hasattr(stats, "initialize"):
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    else:  # Airflow 3.2
        stats.Stats.initialize(factory=stats_utils.get_stats_factory(stats.Stats))
