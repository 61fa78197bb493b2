"""Redis: the user cache, and the contents of a collection that do not count towards completion."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from airflow.providers.redis.hooks.redis import RedisHook
from redis import RedisError, ResponseError
from redis.exceptions import AskError, ClusterDownError, NoPermissionError, RedisClusterException, TryAgainError

from progress_exhaust import compat
from progress_exhaust.docs_links import docs_page
from progress_exhaust.errors import SetupError, SourceError
from progress_exhaust.security.tls import Tls

USERS_PER_ROUND_TRIP = 2000
MAX_CONNECT_SECONDS = 10
NO_ONE = "progress-exhaust-checks-rights"  # the id of a user and a collection that do not exist


class UserCacheHook:
    """The two Redis databases, which are on the same server.

    A Redis Cluster (`"cluster": true` in the connection's extra) has only database 0, whatever the settings say.

    :param user_db: number of the database with a hash `user:<userid>` for each user
    :param relation_db: number of the database with a set `<courseid>:<courseid>:optionalnodes` for each collection
    :param timeout_seconds: how long one answer may take
    """

    connection_id = "progress_exhaust_users"
    users_name = "user cache"

    def __init__(self, *, user_db: int, relation_db: int, timeout_seconds: float) -> None:
        connection = RedisHook.get_connection(self.connection_id)
        self._where = f"Redis at {connection.host}:{connection.port or 6379} (connection {self.connection_id})"
        self._is_cluster = bool(connection.extra_dejson.get("cluster"))
        self._user_db, self._relation_db = (0, 0) if self._is_cluster else (user_db, relation_db)
        self._timeout_seconds = timeout_seconds
        self._rights_checked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in ("_users", "_relations"):
            client = self.__dict__.pop(name, None)
            if client is not None:
                client.close()

    def users(self, user_ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return these fields of the users, by user id.

        The result has no entry for a user who is not in the cache, or whose key is not a hash.
        """
        self._check_rights()
        found: dict[str, dict[str, str]] = {}
        for start in range(0, len(user_ids), USERS_PER_ROUND_TRIP):
            ids = user_ids[start : start + USERS_PER_ROUND_TRIP]
            without_fields = []
            for user_id, values in zip(ids, self._answers("HMGET", ids, *fields), strict=True):
                if values is None:
                    continue
                user = {field: value for field, value in zip(fields, values, strict=True) if value is not None}
                if user:
                    found[user_id] = user
                else:  # either the user is not in the cache, or the user has none of these fields
                    without_fields.append(user_id)
            if without_fields:
                exist = self._answers("EXISTS", without_fields)
                found |= {user_id: {} for user_id, exists in zip(without_fields, exist, strict=True) if exists}
        return found

    def optional_nodes(self, collection_id: str) -> frozenset[str]:
        """Return the ids of the contents that do not count towards the collection's completion."""
        self._check_rights()
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

    def tls(self) -> Tls:
        """Return how the connection is protected."""
        connection = RedisHook.get_connection(self.connection_id)
        extra = connection.extra_dejson
        is_verified = extra.get("ssl_cert_reqs", "required") == "required" and bool(extra.get("ssl_check_hostname"))
        return Tls(connection.host or "localhost", bool(extra.get("ssl")), is_verified)

    def has_excess_rights(self) -> bool:
        """Return whether the login may do more than a run needs, such as asking for its own name."""
        with self._translate_errors():
            try:
                self._users.acl_whoami()
            except NoPermissionError:
                return False
            except ResponseError:  # Redis before version 6 does not have this command, and no rights
                pass
        return True

    def _check_rights(self) -> None:
        """Raise SetupError if the login lacks a right that only some reads need, before anything is read."""
        if self._rights_checked:
            return
        self._answers("HMGET", [NO_ONE], "status")
        self._answers("EXISTS", [NO_ONE])
        with self._translate_errors():
            self._relations.smembers(f"{NO_ONE}:{NO_ONE}:optionalnodes")
        self._rights_checked = True

    def _answers(self, command: str, user_ids: Sequence[str], *arguments: str) -> list[Any]:
        """Return the command's answer for each user; None if the user's key has another type."""
        with self._translate_errors():
            if self._is_cluster:
                answers = self._answers_of_cluster(command, user_ids, *arguments)
            else:
                answers = compat.redis_answers(self._users, [(command, f"user:{user_id}", *arguments) for user_id in user_ids])
        errors = [answer for answer in answers if isinstance(answer, Exception) and not _is_wrong_type(answer)]
        if errors:
            with self._translate_errors():
                raise errors[0]
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    def _answers_of_cluster(self, command: str, user_ids: Sequence[str], *arguments: str) -> list[Any]:
        """Return the answers. The client sends each node its part of the commands."""
        with self._users.pipeline(transaction=False) as pipeline:
            for user_id in user_ids:
                getattr(pipeline, command.lower())(f"user:{user_id}", *arguments)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            return answers

    @cached_property
    def _users(self) -> Any:
        return self._client(self._user_db)

    @cached_property
    def _relations(self) -> Any:
        return self._client(self._relation_db)

    def _client(self, database: int) -> Any:
        arguments = {
            "decode_responses": True,
            "encoding_errors": "replace",
            "socket_timeout": self._timeout_seconds,
            "socket_connect_timeout": min(self._timeout_seconds, MAX_CONNECT_SECONDS),
        }
        hook = RedisHook(self.connection_id)
        if not self._is_cluster:
            client = hook.get_conn()
            compat.set_redis_arguments(client, db=database, **arguments)
            return client
        try:
            return compat.connect_redis_cluster(hook, **arguments)
        except ValueError as error:
            raise SetupError(f"The extra of connection {self.connection_id} is not valid: {error}") from None

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise errors of Redis as SetupError or SourceError."""
        try:
            yield
        except (ClusterDownError, TryAgainError) as error:  # during a fail-over, or while slots move to another node
            raise SourceError(f"{self._where} does not answer: {_without_command(error)}") from None
        except ResponseError as error:
            raise SetupError(self._explain(error)) from None
        except RedisClusterException as error:
            if "Cluster mode is not enabled" in str(error):  # the client says so of each refusal of CLUSTER SLOTS
                raise SetupError(
                    f'{self._where} does not answer as a Redis Cluster. If it is not one, remove "cluster" from the extra of the '
                    "connection. If it is one, the login needs every right of docs/grants/redis-cluster.acl"
                ) from None
            raise SourceError(f"{self._where} does not answer: {_without_command(error)}") from None
        except RedisError as error:
            raise SourceError(f"{self._where} does not answer: {_without_command(error)}") from None

    def _explain(self, error: ResponseError) -> str:
        """Return the message for an answer that a retry does not change."""
        text = _without_command(error)
        # Only a node of a cluster answers so: MOVED, or that it has no other database than 0.
        if isinstance(error, AskError) or "in cluster mode" in text:
            return (
                f'{self._where} is a node of a Redis Cluster. Add "cluster": true to the extra of connection {self.connection_id}'
            )
        if isinstance(error, NoPermissionError):
            grants = "redis-cluster.acl" if self._is_cluster else "redis.acl"
            text += f"; docs/grants/{grants} has every right ({docs_page('how-to/protect-connections')})"
        return f"{self._where}: {text}"


def _without_command(error: Exception) -> str:
    """Return the message without the command that a pipeline puts before it: that contains a learner's id."""
    return str(error).rpartition("caused error: ")[2]


def _is_wrong_type(error: Exception) -> bool:
    return "WRONGTYPE" in str(error)
