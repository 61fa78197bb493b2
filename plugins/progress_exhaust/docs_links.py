"""Addresses of the docs, for messages, the DAGs' pages and the page in Airflow.

The DAG files need PROGRESS_EXHAUST_DOCS_URL while Airflow parses them. Therefore it comes from the environment.
"""

import os
import re

ENVIRONMENT = "PROGRESS_EXHAUST_DOCS_URL"
IN_THE_REPOSITORY = "docs/{page}.md"
NAMED_PAGE = re.compile(r"`docs/([\w/-]+)\.md`")


def docs_page(page: str, section: str = "") -> str:
    """Return the address of a page, such as `how-to/runbook`: a URL, or its file in the repository of this package."""
    url = os.environ.get(ENVIRONMENT, "").strip() or IN_THE_REPOSITORY
    if "{page}" not in url:
        url = f"{url.rstrip('/')}/{{page}}.md"
    address = url.replace("{page}", page)
    return f"{address}#{section}" if section else address


def is_url(address: str) -> bool:
    """Return whether a browser can open the address."""
    return address.startswith(("https://", "http://"))


def link_docs(text: str) -> str:
    """Return a Markdown text whose names of pages, such as `docs/how-to/runbook.md`, are links, if there is a URL to link to."""

    def link(named: re.Match[str]) -> str:
        address = docs_page(named[1])
        return f"[{named[1]}]({address})" if is_url(address) else named[0]

    return NAMED_PAGE.sub(link, text)
