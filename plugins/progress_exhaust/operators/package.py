"""Fourth stage: the package, in the reports container."""

import tempfile
from pathlib import Path
from typing import Any

from progress_exhaust.operators.stage import PACKAGE_FILE, PIVOT_FILE, StageOperator, Work


class PackageOperator(StageOperator):
    """Zips the csv on local disk, publishes the finished file in one go, and leaves `package.json`."""

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.package import write_zip

        work.read(PIVOT_FILE)
        file_name, key = work.batch.file_name(work.day), work.batch.object_key(work.day)
        with tempfile.TemporaryDirectory(prefix="progress-exhaust-") as scratch:
            package = Path(scratch) / Path(key).name
            with (work.folder / file_name).open("rb") as source:
                write_zip(source, package, file_name, work.day)
            size_bytes = package.stat().st_size
            if work.params.dry_run:
                self.log.info("Dry run: %s is made, %s bytes, and not published", key, f"{size_bytes:,}")
            else:
                with work.requests.pinned(work.batch):
                    work.site.store().publish(package, key)
        work.leave(PACKAGE_FILE, {"key": key, "size_bytes": size_bytes})
        return {"package_bytes": size_bytes}
