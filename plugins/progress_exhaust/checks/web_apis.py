"""Check the content API and the user-org API."""

from collections.abc import Iterator
from contextlib import suppress

from progress_exhaust.checks.findings import NO_ONE, Finding, Result, describe_tls, guarded, passed, warned
from progress_exhaust.errors import ProgressExhaustError
from progress_exhaust.hooks.content_api import ContentApiHook
from progress_exhaust.hooks.org_api import OrgApiHook, OrgNotFoundError
from progress_exhaust.stages.site_setup import Site

CONTENT, ORG = ContentApiHook.default_conn_name, OrgApiHook.default_conn_name


def check_content_api(site: Site) -> Iterator[Finding]:
    """Check the search, and the trees, which are needed only if Cassandra does not have one."""
    with site.content_api() as content:
        yield from guarded("content search", CONTENT, lambda: _search(content))
        yield from guarded("content trees", CONTENT, lambda: _read_tree(content))
        yield from guarded("TLS of the content API", CONTENT, lambda: [describe_tls(content.tls())])


def _search(content: ContentApiHook) -> Iterator[Result]:
    list(content.collections([NO_ONE]))
    yield passed("answers")


def _read_tree(content: ContentApiHook) -> Iterator[Result]:
    try:
        content.hierarchy(NO_ONE)
    except ProgressExhaustError as error:
        yield warned(f"{error}. Only trees that Cassandra lacks come from there. Fix content_hierarchy_path or the connection")
    else:
        yield passed("answers")


def check_org_api(site: Site) -> Iterator[Finding]:
    """Check the preferences and the search of orgs."""
    if site.settings.org_policy_source == "none":
        yield from guarded("org API", ORG, lambda: [passed("not used, because of org_policy_source")])
        return
    with site.org_api() as orgs:
        yield from guarded("org preferences", ORG, lambda: _read_policy(orgs))
        yield from guarded("org search", ORG, lambda: _read_key(orgs))
        yield from guarded("TLS of the org API", ORG, lambda: [describe_tls(orgs.tls())])


def _read_policy(orgs: OrgApiHook) -> Iterator[Result]:
    orgs.security_policy(NO_ONE)
    yield passed("answers")


def _read_key(orgs: OrgApiHook) -> Iterator[Result]:
    with suppress(OrgNotFoundError):  # as it should be
        orgs.public_key_url(NO_ONE)
    yield passed("answers")
