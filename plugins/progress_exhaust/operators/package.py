"""Fourth stage: the package, in the reports container."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progress_exhaust.errors import OverLimitError, SetupError
from progress_exhaust.operators.stage import PACKAGE_FILE, PIVOT_FILE, StageOperator, Work

if TYPE_CHECKING:
    from progress_exhaust.hooks.report_store import ReportStoreHook


class PackageOperator(StageOperator):
    """Zips the csv on local disk, publishes the finished file in one go, and leaves `package.json`."""

    needs = (PIVOT_FILE,)

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.package import write_zip

        file_name, key = work.batch.file_name(work.day), work.batch.object_key(work.day)
        with tempfile.TemporaryDirectory(prefix="progress-exhaust-") as scratch:
            package = Path(scratch) / Path(key).name
            with (work.folder / file_name).open("rb") as source:
                write_zip(source, package, file_name, work.day)
            size_bytes = package.stat().st_size
            if work.params.dry_run:
                self.log.info("Dry run: %s is made, %s bytes, and not published", key, f"{size_bytes:,}")
            else:
                self._check_limit(work, size_bytes)
                store = work.site.store()
                self._check_strangers(work, store)
                with work.requests.pinned(work.batch):
                    store.publish(package, key)
                work.requests.record(work.batch, stage="package", state="running", size_bytes=size_bytes)
        work.leave(PACKAGE_FILE, {"key": key, "size_bytes": size_bytes})
        return {"package_bytes": size_bytes}

    def _check_strangers(self, work: Work, store: "ReportStoreHook") -> None:
        """Refuse a container that anybody may download from, unless the site allows it."""
        settings = work.site.settings
        if store.answers_strangers() and not settings.allow_public_container:
            raise SetupError(
                f"The reports container {settings.container} lets anybody download from it: make it private, as the API signs "
                "the links. The setting allow_public_container publishes there all the same, and then no plain zip"
            )
        # TODO(security levels): here, where the container answers strangers, level PLAIN_DATASET is a RequestError.

    def _check_limit(self, work: Work, size_bytes: int) -> None:
        """Let the batch wait where its org has had its share of this run; an org's first batch never waits."""
        most, made = work.site.settings.bytes_per_channel, work.requests.channel_bytes(work.batch)
        if work.batch.request_id and made and made + size_bytes > most:
            raise OverLimitError(f"its org has {made:,} bytes of this run, of the {most:,} that bytes_per_channel allows")
