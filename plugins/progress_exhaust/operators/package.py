"""Fourth stage: the package, in the reports container."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import mask_secret

from progress_exhaust.errors import OverLimitError, RequestError, SetupError
from progress_exhaust.operators import lineage
from progress_exhaust.operators.stage import PACKAGE_FILE, PIVOT_FILE, StageOperator, Work, scratch_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from progress_exhaust.hooks.report_store import ReportStoreHook
    from progress_exhaust.security.levels import Protection


class PackageOperator(StageOperator):
    """Packs the csv on local disk, as its security level says, and publishes the finished file in one go."""

    needs = (PIVOT_FILE,)
    published: lineage.Names = ()

    def make(self, work: Work) -> dict[str, Any]:
        from progress_exhaust.report.package import write_package

        settings = work.site.settings
        protection = self._protection(work)
        written, key = work.read(PIVOT_FILE), work.batch.object_key(work.day)
        file_name = written["file_name"]
        summary = (work.folder / written["summary_name"]).read_bytes() if written["summary_name"] else None
        with ExitStack() as stack, scratch_folder(stack) as scratch:
            package = scratch / Path(key).name
            # Before the upgrade to a folder of each try, the csv lay in the batch's own.
            with (work.folder / written.get("folder", "") / file_name).open("rb") as csv:
                write_package(
                    csv,
                    package,
                    file_name,
                    work.day,
                    protection,
                    size_bytes=written["size_bytes"],
                    zip_cipher=settings.zip_cipher,
                    summary=summary,
                )
            size_bytes = package.stat().st_size
            if work.params.dry_run:
                self.log.info("Dry run: %s is made, %s bytes, and not published", key, f"{size_bytes:,}")
            else:
                self._check_limit(work, size_bytes)
                store = work.site.store()
                self._check_strangers(work, store, protection)
                with work.requests.pinned(work.batch):
                    store.publish(package, key, work.site.run_id)
                work.requests.record(work.batch, stage="package", state="running", size_bytes=size_bytes)
                self.published = lineage.package(settings.container, key)
        work.leave(PACKAGE_FILE, {"key": key, "size_bytes": size_bytes, "level": protection.level})
        return {"package_bytes": size_bytes}

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> Any:
        return lineage.facets((), self.published)

    def _protection(self, work: Work) -> "Protection":
        from progress_exhaust.security.levels import Keys, Level, ZipCipher, protection, stated_level

        settings = work.site.settings
        keys = Keys(text=lambda: self._requester_key(work), public_key=lambda: self._public_key(work))
        policy = None
        if self._has_org(work):
            with work.site.org_api() as orgs:
                policy = orgs.security_policy(work.batch.channel)
        try:
            found = protection(stated_level(policy), settings.default_security_level, keys)
        except RequestError as error:
            if work.batch.request_id:
                raise
            raise SetupError(f"{error}. A run without a request has neither: set another default_security_level") from None
        self.log.info("%s: %s", work.batch, found.level)
        if found.level is Level.PASSWORD and settings.zip_cipher is ZipCipher.ZIP_CRYPTO:
            self.log.warning("%s: its zip's cipher, ZipCrypto, is broken: better set zip_cipher to AES-256", work.batch)
        return found

    def _requester_key(self, work: Work) -> str | None:
        from progress_exhaust.hooks.salt import read_salt
        from progress_exhaust.security.salt import requester_key

        if not work.batch.request_id:
            return None
        stored = work.requests.encryption_key(work.batch)
        mask_secret(stored)
        text = requester_key(stored, work.site.settings.platform_key, read_salt())
        mask_secret(text)
        return text

    def _public_key(self, work: Work) -> "RSAPublicKey | None":
        from progress_exhaust.security.encryption import read_public_key

        if not self._has_org(work):
            return None
        with work.site.org_api() as orgs:
            url = orgs.public_key_url(work.batch.channel)
        return read_public_key(work.site.public_keys().fetch(url)) if url else None

    def _has_org(self, work: Work) -> bool:
        """Tell whether an org's word is to be asked for; a run without a request is no org's."""
        return bool(work.batch.request_id) and work.site.settings.org_preferences == "api"

    def _check_strangers(self, work: Work, store: "ReportStoreHook", protection: "Protection") -> None:
        """Refuse a container that anybody may download from, unless allowed; no zip goes there that anybody can open."""
        from progress_exhaust.security.levels import Level, ZipCipher

        settings = work.site.settings
        if not store.answers_strangers():
            return
        if not settings.allow_public_container:
            raise SetupError(
                f"The reports container {settings.container} lets anybody download from it: make it private, as the API signs "
                "the links. The setting allow_public_container publishes there all the same, and then no plain zip"
            )
        if protection.level is Level.PLAIN and not work.batch.request_id:
            raise SetupError(
                f"The reports container {settings.container} lets anybody download from it, and a run without a request has no "
                "key to protect its report by: make the container private"
            )
        if protection.level is Level.PLAIN:
            raise RequestError(
                "The report would be without protection, in a place that anybody can download from: ask for it with an "
                "encryption key, or let your org choose a security level other than PLAIN_DATASET"
            )
        if protection.level is Level.PASSWORD and settings.zip_cipher is ZipCipher.ZIP_CRYPTO:
            raise SetupError(
                f"The reports container {settings.container} lets anybody download from it, and a zip's cipher ZipCrypto is "
                "broken: set zip_cipher to AES-256, or make the container private"
            )

    def _check_limit(self, work: Work, size_bytes: int) -> None:
        """Let the batch wait where its org has had its share of this run; an org's first batch never waits."""
        most, made = work.site.settings.bytes_per_channel, work.requests.channel_bytes(work.batch)
        if work.batch.request_id and made and made + size_bytes > most:
            raise OverLimitError(f"its org has {made:,} bytes of this run, of the {most:,} that bytes_per_channel allows")
