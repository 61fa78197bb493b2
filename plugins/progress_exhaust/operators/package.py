"""Fourth stage of a batch: the package, in the reports container."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progress_exhaust import lineage
from progress_exhaust.errors import ClaimLostError, OverLimitError, ProgressExhaustError
from progress_exhaust.hooks.requests.models import BatchState, Stage
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.protection import check_container, choose_protection
from progress_exhaust.stages.scratch import scratch_folder
from progress_exhaust.stages.stage_operator import Counts, StageOperator
from progress_exhaust.staging.manifests import PackageManifest, PivotManifest

if TYPE_CHECKING:
    from progress_exhaust.security.levels import Protection


class PackageOperator(StageOperator):
    """Make the package on local disk, as its security level demands, and publish the finished file in one go."""

    needs = (PivotManifest,)

    def run_stage(self, batch_context: BatchContext) -> Counts:
        protection = choose_protection(batch_context)
        key = batch_context.batch.object_key(batch_context.day)
        with ExitStack() as stack, scratch_folder(stack) as scratch:
            package = scratch / Path(key).name
            write_package_file(batch_context, package, protection)
            size_bytes, sha256 = package.stat().st_size, sha256_of(package)
            if batch_context.params.dry_run:
                check_publishing(batch_context, key, protection)
                self.log.info("Dry run: %s is made and not published: bytes=%d", key, size_bytes)
            else:
                publish(batch_context, package, key, protection)
        batch_context.staging.write_manifest(
            PackageManifest(key=key, size_bytes=size_bytes, level=protection.level, sha256=sha256)
        )
        return {"package_bytes": size_bytes}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        return lineage.package_facets(self.batch, task_instance)


def sha256_of(package: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with package.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_package_file(batch_context: BatchContext, package: Path, protection: "Protection") -> None:
    """Write the package of the report that pivot made."""
    from progress_exhaust.report.package import Packed, write_package

    folder = batch_context.staging
    pivot = folder.read(PivotManifest)
    reports = {pivot.file_name: pivot.size_bytes}
    if pivot.workbook:
        reports[pivot.workbook.name] = pivot.workbook.size_bytes
    notes = {name: (folder.path / name).read_bytes() for name in (pivot.columns_name, pivot.summary_name) if name}
    with ExitStack() as stack:
        write_package(
            [
                Packed(name, stack.enter_context((folder.path / pivot.folder / name).open("rb")), size_bytes)
                for name, size_bytes in reports.items()
            ],
            package,
            batch_context.day,
            protection,
            zip_cipher=batch_context.site.settings.zip_cipher,
            notes=notes,
        )


def check_publishing(batch_context: BatchContext, key: str, protection: "Protection") -> None:
    """Check what `publish` would refuse. The limit of bytes is not reached: a dry run publishes nothing."""
    store = batch_context.site.store()
    check_container(batch_context, store, protection)
    store.check_writable(key)


def publish(batch_context: BatchContext, package: Path, key: str, protection: "Protection") -> None:
    """Put the package into the reports container while the claim is locked, and record its size."""
    store = batch_context.site.store()
    check_container(batch_context, store, protection)
    with (
        reserve_bytes(batch_context, package.stat().st_size),
        batch_context.locks.lock_claim(batch_context.batch, store.longest_publish_seconds(package)),
    ):
        store.publish(package, key, batch_context.site.publisher)
    batch_context.ledger.record(
        batch_context.batch, stage=Stage.PACKAGE, state=BatchState.RUNNING, size_bytes=package.stat().st_size
    )


@contextmanager
def reserve_bytes(batch_context: BatchContext, size_bytes: int) -> Iterator[None]:
    """Count the package for its org while the block publishes it; defer the batch if the org has reached its bytes.

    The first batch of an org is never deferred.
    """
    limit_bytes, ledger = batch_context.site.settings.bytes_per_channel, batch_context.ledger
    published_bytes = ledger.reserve_bytes(batch_context.batch, size_bytes, limit_bytes, batch_context.day)
    if published_bytes is not None:
        raise OverLimitError(
            f"The org has packages of {published_bytes:,} bytes of this day. The setting bytes_per_channel allows "
            f"{limit_bytes:,} bytes",
            size_bytes,
        )
    try:
        yield
    except ClaimLostError:  # a newer attempt may have reserved its own bytes
        raise
    except Exception:
        with suppress(ProgressExhaustError):
            ledger.free_bytes(batch_context.batch)
        raise
