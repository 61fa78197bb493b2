"""The sum of pytest's closing lines, which `make test` ends with."""

from tests.run_all import CLOSING_LINE, total


def test_closing_lines_are_added_up() -> None:
    lines = ["=== 1 failed, 53 passed, 2 skipped in 553.66s (0:09:13) ===", "=== 40 passed in 1.20s ==="]
    assert all(map(CLOSING_LINE.match, lines))
    assert total(lines, 554.321) == "========== 1 failed, 93 passed, 2 skipped in 554.32s =========="
