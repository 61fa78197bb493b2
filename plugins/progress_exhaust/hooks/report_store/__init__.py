"""The store: the reports container, which requesters download from, and the private staging folder.

Both are URLs for Airflow's ObjectStoragePath. If the connection `progress_exhaust_store` exists, it is the login for both.
docs/how-to/connect-a-store.md says what each store needs.
"""

from progress_exhaust.hooks.report_store.files import (
    StoredFile,
    delete_empty_folder,
    delete_file,
    delete_folder,
    make_folder,
    write_atomically,
)
from progress_exhaust.hooks.report_store.hook import SIGNED_LINK_SECONDS, ReportStoreHook

__all__ = [
    "SIGNED_LINK_SECONDS",
    "ReportStoreHook",
    "StoredFile",
    "delete_empty_folder",
    "delete_file",
    "delete_folder",
    "make_folder",
    "write_atomically",
]
