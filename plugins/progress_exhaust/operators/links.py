from progress_exhaust.links import PAGE, FileLink, RequestLink  # noqa: F401
