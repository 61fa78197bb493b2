import pytest

from progress_exhaust.docs_links import ENVIRONMENT, docs_page, link_docs
from tests.messages import PROJECT


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (None, "docs/how-to/runbook.md#x"),
        ("", "docs/how-to/runbook.md#x"),
        ("https://git.example.org/p/blob/main/docs/", "https://git.example.org/p/blob/main/docs/how-to/runbook.md#x"),
        ("https://docs.example.org/{page}.html", "https://docs.example.org/how-to/runbook.html#x"),
    ],
)
def test_a_page_has_an_address(monkeypatch: pytest.MonkeyPatch, url: str | None, address: str) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    if url is not None:
        monkeypatch.setenv(ENVIRONMENT, url)
    assert docs_page("how-to/runbook", "x") == address


def test_a_text_links_to_pages_only_if_there_is_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    text = "See `docs/how-to/runbook.md` and `dags/`."
    assert link_docs(text) == text
    monkeypatch.setenv(ENVIRONMENT, "https://docs.example.org/{page}/")
    assert link_docs(text) == "See [how-to/runbook](https://docs.example.org/how-to/runbook/) and `dags/`."


def test_the_default_address_is_that_of_a_file() -> None:
    assert (PROJECT / docs_page("how-to/runbook")).exists()
