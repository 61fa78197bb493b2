from progress_exhaust.failure_notifier import ENVIRONMENT, failure_callback  # noqa: F401
