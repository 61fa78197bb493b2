"""Delete staging that no rerun needs.

Staging has the data of learners in clear. What a store does not delete is noted in the folder of its run. Each later run tries
again, and reports it until it is deleted. A failed deletion fails no task, because the reports are made.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.stages.airflow_runs import has_ended
from progress_exhaust.stages.batch_context import Log
from progress_exhaust.stages.site_setup import Site
from progress_exhaust.staging.batch_folder import find_manifest
from progress_exhaust.staging.manifests import UndeletedFolders

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath


class StagingCleanup:
    """Deletes folders of staging."""

    def __init__(self, site: Site, log: Log) -> None:
        self._own_run_id = site.run_id
        self._store = site.store()
        self._log = log

    def delete(self, run_id: str, folders: "Iterable[ObjectStoragePath]") -> None:
        """Delete folders of a run. One that cannot be deleted does not keep the others; it is noted, and a warning reports it.

        For the own run, these folders replace what was noted before: a rerun may need the others again.
        """
        from progress_exhaust.hooks.report_store import delete_folder

        run_folder = self._store.run_folder(run_id)
        noted = self._find_noted(run_id)
        remaining = set[str]() if run_id == self._own_run_id else set(noted)
        for folder in folders:
            name = folder.path.removeprefix(run_folder.path).strip("/")
            try:
                delete_folder(folder)
                remaining.discard(name)
            except ProgressExhaustError as error:
                remaining.add(name)
                self._log.warning("Learner data stays in staging: %s. The next runs try to delete it again", error)
        if remaining or noted:  # also the same again: the deletion of the run's folder may have deleted the note
            self._note(run_id, remaining)

    def retry(self, context: "Context") -> int | None:
        """Try to delete what ended or deleted runs could not delete; return how many folders remain, None if not known."""
        undeleted = 0
        try:
            run_ids = self._store.staged_run_ids()
        except ProgressExhaustError as error:
            self._log.warning("Staging cannot be checked for data that should be deleted: %s", error)
            return None
        for run_id in run_ids:
            noted = self._find_noted(run_id)
            if noted and run_id != self._own_run_id and has_ended(context, run_id):
                run_folder = self._store.run_folder(run_id)
                self.delete(run_id, [run_folder / name if name else run_folder for name in sorted(noted)])
                noted = self._find_noted(run_id)
            if noted:
                self._log.warning("Learner data of run %s stays in staging: undeleted_folders=%d", run_id, len(noted))
            undeleted += len(noted)
        return undeleted

    def _find_noted(self, run_id: str) -> frozenset[str]:
        try:
            with self._store.translate_store_errors():
                found = find_manifest(self._store.run_folder(run_id), UndeletedFolders)
        except ProgressExhaustError as error:
            self._log.warning("The note of what must be deleted in staging of run %s cannot be read: %s", run_id, error)
            return frozenset()
        return found.folders if found else frozenset()

    def _note(self, run_id: str, folders: set[str]) -> None:
        from progress_exhaust.hooks.report_store import delete_file, write_atomically

        path = self._store.run_folder(run_id) / UndeletedFolders.FILE_NAME
        try:
            with self._store.translate_store_errors():
                if not folders:
                    delete_file(path)
                    return
                write_atomically(path, UndeletedFolders(folders=frozenset(folders)).model_dump_json().encode())
        except ProgressExhaustError as error:
            self._log.warning("The note of what must be deleted in staging of run %s is not up to date: %s", run_id, error)


def by_run(folders: "Iterable[tuple[str, ObjectStoragePath]]") -> "dict[str, list[ObjectStoragePath]]":
    """Group folders by the run that they belong to."""
    grouped: defaultdict[str, list[ObjectStoragePath]] = defaultdict(list)
    for run_id, folder in folders:
        grouped[run_id].append(folder)
    return grouped
