"""Redis: the user cache, and the contents of a collection that do not count towards completion."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from airflow.providers.redis.hooks.redis import RedisHook
from redis import RedisError, ResponseError
from redis.exceptions import MasterDownError, NoPermissionError

from progress_exhaust import compat
from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import SetupError, SourceError

USERS_PER_ROUND_TRIP = 2000
MAX_CONNECT_SECONDS = 10


class UserCacheHook:
    """The two Redis databases, which are on the same server.

    :param user_db: number of the database with a hash `user:<userid>` for each user
    :param relation_db: number of the database with a set `<courseid>:<courseid>:optionalnodes` for each collection
    :param timeout_seconds: how long one answer may take
    """

    connection_id = "progress_exhaust_users"

    def __init__(self, *, user_db: int, relation_db: int, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._relation_db = relation_db
        self._users = self._client(user_db)
        self._relations = self._client(relation_db)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._users.close()
        self._relations.close()

    def users(self, user_ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return these fields of the users, by user id.

        The result has no entry for a user who is not in the cache, or whose key is not a hash.
        """
        found: dict[str, dict[str, str]] = {}
        for start in range(0, len(user_ids), USERS_PER_ROUND_TRIP):
            ids = user_ids[start : start + USERS_PER_ROUND_TRIP]
            without_fields = []
            for user_id, values in zip(ids, self._pipelined("hmget", ids, list(fields)), strict=True):
                if values is None:
                    continue
                user = {field: value for field, value in zip(fields, values, strict=True) if value is not None}
                if user:
                    found[user_id] = user
                else:  # either the user is not in the cache, or the user has none of these fields
                    without_fields.append(user_id)
            if without_fields:
                exist = self._pipelined("exists", without_fields)
                found |= {user_id: {} for user_id, exists in zip(without_fields, exist, strict=True) if exists}
        return found

    def optional_nodes(self, collection_id: str) -> frozenset[str]:
        """Return the ids of the contents that do not count towards the collection's completion."""
        key = f"{collection_id}:{collection_id}:optionalnodes"
        with self._translate_errors():
            try:
                return frozenset(self._relations.smembers(key))
            except ResponseError as error:
                if not _is_wrong_type(error):
                    raise
                raise SetupError(
                    f"{self._where}: the key {key} in database {self._relation_db} is not a set. Let the job that fills the "
                    "cache write it again, or set optional_nodes_db to the right database. Then clear the task"
                ) from None

    def _pipelined(self, command: str, user_ids: Sequence[str], *arguments: Any) -> list[Any]:
        """Return the command's answer for each user; None if the user's key has another type."""
        with self._translate_errors(), self._users.pipeline(transaction=False) as pipeline:
            for user_id in user_ids:
                getattr(pipeline, command)(f"user:{user_id}", *arguments)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        errors = [answer for answer in answers if isinstance(answer, Exception) and not _is_wrong_type(answer)]
        if errors:
            with self._translate_errors():
                raise errors[0]
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    def _client(self, database: int) -> Any:
        hook = RedisHook(self.connection_id)
        client = hook.get_conn()
        self._where = f"Redis at {hook.host}:{hook.port or 6379} (connection {self.connection_id})"
        compat.set_redis_arguments(
            client,
            db=database,
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=self._timeout_seconds,
            socket_connect_timeout=min(self._timeout_seconds, MAX_CONNECT_SECONDS),
        )
        return client

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise errors of Redis as SetupError or SourceError."""
        try:
            yield
        except MasterDownError as error:  # a replica refuses old data during a fail-over
            raise SourceError(f"{self._where} does not answer: {_without_command(error)}") from None
        except ResponseError as error:
            text = _without_command(error)
            if isinstance(error, NoPermissionError):
                text += f"; docs/grants/redis.acl has every right ({docs_page('how-to/protect-connections')})"
            raise SetupError(f"{self._where}: {text}") from None
        except RedisError as error:
            raise SourceError(f"{self._where} does not answer: {error}") from None


def _without_command(error: Exception) -> str:
    """Return the message without the command that a pipeline puts before it: that contains a learner's id."""
    return str(error).rpartition("caused error: ")[2]


def _is_wrong_type(error: Exception) -> bool:
    return "WRONGTYPE" in str(error)
