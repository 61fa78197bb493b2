"""The tasks of runs, and what people do, as the clients of a schedule."""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from progress_exhaust.airflow_names import AirflowSkipException
from progress_exhaust.errors import ClaimLostError, ConflictError, RequestDeletedError, SetupError, SourceError
from progress_exhaust.hooks.report_store import ReportStoreHook
from progress_exhaust.hooks.requests.models import BatchState, Key, Stage
from progress_exhaust.operators.claim_requests import ClaimRequestsOperator
from progress_exhaust.operators.mark_complete import complete
from progress_exhaust.operators.package import publish
from progress_exhaust.operators.settle_requests import SettleRequestsOperator
from progress_exhaust.report.plan import duplicates
from progress_exhaust.report.request import Batch, parse_request_data
from progress_exhaust.stages.batch_context import BatchContext
from progress_exhaust.stages.site_setup import RunParams, Site
from progress_exhaust.stages.stage_operator import run_and_record
from progress_exhaust.staging.manifests import PackageManifest
from tests.history import recorder
from tests.history.events import PERSON, REQUESTER, By, Run
from tests.integration.life import DAY, chosen
from tests.interleavings.scheduler import DEADLOCK_MILLISECONDS, Client, GatedConnection, GatedCursor
from tests.interleavings.world import FIRST, World

MOST_ATTEMPTS = 3  # of a task
NO_PARAMS = RunParams()
log = logging.getLogger("interleavings")
claim_operator = ClaimRequestsOperator(task_id="claim_requests")
settle_operator = SettleRequestsOperator(task_id="settle_requests")


@dataclass(frozen=True)
class ClientSite(Site):
    """The site as one task of a client sees it: its hooks wait at the gates of the client."""

    client: Any = None
    world: Any = None
    level: int = 0
    params: RunParams = NO_PARAMS

    def _connect(self, hook: Any) -> Any:
        made = super()._connect(gated(hook))
        made.client, made.by = self.client, self.by
        return made

    def store(self) -> ReportStoreHook:
        made = ClientStore(
            container_url=self.settings.reports_container_url,
            staging_url=self.settings.staging_url,
            installation=self.installation,
        )
        made.site = self
        return made

    @property
    def by(self) -> By:
        params = frozenset(name for name in ("force", "release_claims") if getattr(self.params, name))
        return By("run", (self.installation, self.run_id), self.task_attempt, params)


class ClientStore(ReportStoreHook):
    """The store of the packages. It only notes what is published, and what was in the file."""

    site: ClientSite

    def publish(self, package: Path, key: str, _publisher: str = "") -> int:
        self.site.client.wait_at_gate("publish")
        data = package.read_bytes()
        values = {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "level": self.site.level}
        self.site.world.note(self.site.by, recorder.PUBLISHED, values)
        return len(data)

    def is_public(self) -> bool:
        return False


class Gated:
    """A hook of the requests that uses the connections of a client."""

    client: Any
    by: By

    def _kept_connection(self) -> Any:
        if self.client.connections:
            connection = self.client.connections.pop()
            connection.client = self.client
            self._start(connection)
            return connection
        return None

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:
        options: Any = self._connect_options() | conn_args  # type: ignore[attr-defined]
        connection = GatedConnection.connect(
            **options, cursor_factory=GatedCursor, options=f"-c deadlock_timeout={DEADLOCK_MILLISECONDS}ms"
        )
        connection.client = self.client
        return connection

    def _start(self, connection: Any) -> None:
        super()._start(connection)  # type: ignore[misc]
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config(%s, %s, true)", [recorder.BY, str(self.by)])


@cache
def gated(hook: type) -> Any:
    return type(f"Gated{hook.__name__}", (Gated, hook), {})


@dataclass(frozen=True)
class Tasks:
    """The tasks of one run, as Airflow lets them run: one that meets a lost connection is tried again."""

    world: World
    client: Client
    run: Run
    params: RunParams = NO_PARAMS
    first_attempt: int = 1

    def run_whole(self) -> None:
        """Do what a whole run does. At its end, Airflow says that it has ended."""
        with suppress(SetupError):  # it cannot claim a request that it names
            self.claim()
        self.make(self.list_batches() or [])
        self.settle()
        self.world.end(self.run)

    def make(self, batches: list[Batch]) -> None:
        for batch in batches:
            if self.package(batch):
                self.mark_complete(batch)

    def claim(self) -> Any:
        return self._attempts(lambda site: claim_operator.run(self._context(), site, self.params))

    def claim_only(self) -> Any:
        """Claim in one transaction: what claim_requests does before and after it is left to the random orders."""

        def work(site: ClientSite) -> Any:
            ended = [run_id for installation, run_id in self.world.ended if installation == self.run[0]]
            return site.claims().claim(chosen(ended_runs=ended, request_ids=self.params.request_ids, force=self.params.force))

        return self._attempts(work)

    def reject(self, key: Key) -> Any:
        """End a request by a permanent error, as list_batches does."""
        return self._attempts(lambda site: site.ledger().list_batches([], [], rejected=[(key, "There is no such batch")]))

    def list_batches(self) -> Any:
        return self._attempts(self._list_batches)

    def package(self, batch: Batch) -> bool:
        """Return whether the task succeeded."""
        return self._attempts(lambda site: self._stage(site, batch, Stage.PACKAGE)) is not None

    def mark_complete(self, batch: Batch) -> bool:
        return self._attempts(lambda site: self._stage(site, batch, Stage.MARK_COMPLETE)) is not None

    def settle(self) -> Any:
        def work(site: ClientSite) -> bool:
            settle_operator._release_deleted(self._context(), site, site.ledger().run_batches())
            for error in settle_operator._settle(site):
                raise error
            return True

        return self._attempts(work)

    # One attempt

    def _list_batches(self, site: ClientSite) -> list[Batch]:
        requests = site.claims().requests_to_list()
        shared = duplicates(requests)
        to_make, finished, batch_ids = [], [], {}
        for request in requests:
            if request.key in shared:
                continue
            ids = parse_request_data(request.request_data).batch_ids
            missing = [one for one in ids if self.params.force or one not in request.finished()]
            to_make += [Batch(*request.key, request.requested_channel, one, "do_1") for one in missing]
            finished += [] if missing else [request]
            batch_ids[request.key] = ids
        _, dropped = site.ledger().list_batches(to_make, [], duplicates=shared.items(), finished=finished, batch_ids=batch_ids)
        return [batch for batch in to_make if batch.request_key not in dropped]

    def _stage(self, site: ClientSite, batch: Batch, stage: Stage) -> Any:
        site = replace(site, level=self.world.policy)
        nothing: Any = None
        context = BatchContext(
            site=site, params=self.params, batch=batch, day=DAY, staging=nothing, claims=site.claims(), ledger=site.ledger(),
            locks=site.locks(), log=log, stage=stage,
        )  # fmt: skip
        key, package = batch.object_key(DAY), self.world.package(batch.batch_id)
        if stage is Stage.PACKAGE:
            return run_and_record(context, lambda: publish(context, package, key, nothing) or {}, needs=())
        before = context.ledger.batch_run(batch)
        if before is not None and before.state == BatchState.DONE:
            return {}
        manifest = PackageManifest.model_construct(key=key, size_bytes=package.stat().st_size, level=nothing)
        return run_and_record(context, lambda: complete(context, manifest), needs=(), state_after=BatchState.DONE)

    def _attempts(self, work: Callable[[ClientSite], Any]) -> Any:
        """Return the result of the first attempt that succeeds; None if the task fails or is skipped."""
        for number in range(self.first_attempt, self.first_attempt + MOST_ATTEMPTS):
            faults = self.client.faults
            site = ClientSite(
                self.world.settings, self.run[1], number, self.run[0], client=self.client, world=self.world,
                params=self.params,
            )  # fmt: skip
            try:
                return work(site)
            except (ClaimLostError, RequestDeletedError, AirflowSkipException):
                return None
            except SourceError as error:
                if self.client.faults == faults:
                    self.world.problems.append(f"{self.client.name}: {error}")
        return None

    def _context(self) -> Any:
        def state_of(*, dag_id: str, run_id: str) -> str:
            return "failed" if (self.run[0], run_id) in self.world.ended else "running"

        ti = SimpleNamespace(get_dagrun_state=state_of, xcom_push=lambda **_: None, xcom_pull=lambda **_: None)
        dag_run = SimpleNamespace(run_type="manual", run_after=datetime(2022, 9, 27, 6, tzinfo=UTC), conf={})
        return {"ti": ti, "run_id": self.run[1], "dag_run": dag_run, "params": {}}


def run_whole(world: World, run: Run) -> None:
    """Let a whole run do its tasks, undisturbed."""
    Tasks(world, world.client("undisturbed", lambda _: None), run).run_whole()


# People. A step of theirs may have succeeded, although it ended with an error.


def resubmit(world: World, client: Client, key: Key) -> None:
    """Ask again, as the API does: a FAILED request is SUBMITTED again, and keeps its iteration."""
    hook = ClientSite(world.settings, "", client=client, world=world).claims()
    hook.by = By(REQUESTER)
    statement = "UPDATE {job_request} SET status = 'SUBMITTED' WHERE tag = %(tag)s AND request_id = %(id)s AND status = 'FAILED'"
    with suppress(SourceError), hook._transaction() as transaction:
        client.wait_at_gate("resubmit")
        transaction.execute(statement, {"tag": key[0], "id": key[1]})


def release(world: World, client: Client, key: Key) -> None:
    """Release a claim, as a person does with `make release`."""
    hook = ClientSite(world.settings, "", client=client, world=world).releases()
    hook.by = By(PERSON)
    with suppress(SourceError):
        for holder in hook.holders([key[1]]):
            hook.release(holder)


def cancel(world: World, client: Client, key: Key) -> None:
    """Cancel a request, as a person does with the button of the page."""
    hook = ClientSite(world.settings, "", installation=FIRST, client=client, world=world).releases()
    hook.by = By(PERSON)
    with suppress(SourceError, ConflictError):
        hook.cancel(key)
