"""What both sources of users have in common: the Redis cache, and the tables of the platform."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self


class UserSource(Protocol):
    """Where the profiles of learners and the optional nodes of collections come from. Use it with `with`."""

    users_name: str  # for messages

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None: ...

    def users(self, user_ids: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return these fields of the users, by user id. An unknown user has no entry; an unknown field is missing."""

    def optional_nodes(self, collection_id: str) -> frozenset[str]:
        """Return the ids of the contents that do not count towards the collection's completion."""
