"""Check Redis: the user cache and the optional nodes."""

from collections.abc import Iterator

from progress_exhaust.checks.findings import NO_ONE, Finding, Result, describe_tls, guarded, passed, warned
from progress_exhaust.hooks.user_cache import UserCacheHook
from progress_exhaust.stages.site_setup import Site

WHERE = UserCacheHook.connection_id


def check_user_cache(site: Site) -> Iterator[Finding]:
    """Check what the runs need of Redis. Without a connection, there is one finding."""
    with site.user_cache() as cache:
        cache.users([NO_ONE], ["status"])  # it first checks each right, also on the optional nodes
        readable = passed(f"readable: databases {site.settings.user_cache_db} and {site.settings.optional_nodes_db}")
        yield from guarded("Redis", WHERE, lambda: [readable])
        yield from guarded("TLS of Redis", WHERE, lambda: [describe_tls(cache.tls())])
        yield from guarded("rights on Redis", WHERE, lambda: [_judge_rights(cache)])


def _judge_rights(cache: UserCacheHook) -> Result:
    if cache.has_excess_rights():
        return warned("The login may do what no run needs. Use a login that has the rights of docs/grants/redis.acl only")
    return passed("every right that a run needs, and no wide one")
