"""The last lines of `make test`: the tests that failed, and the sum of pytest's closing lines."""

import sys
from pathlib import Path

from tests.run_all import CLOSING_LINE, Group, total


def test_closing_lines_are_added_up() -> None:
    lines = ["=== 1 failed, 53 passed, 2 skipped in 553.66s (0:09:13) ===", "=== 40 passed in 1.20s ==="]
    assert all(map(CLOSING_LINE.match, lines))
    assert total(lines, 554.321) == "========== 1 failed, 93 passed, 2 skipped in 554.32s =========="


def test_a_failed_test_is_named_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_it():\n    assert False\n\n\ndef test_other():\n    pass\n")
    code, lines = Group("one", sys.executable, (str(tmp_path), f"--rootdir={tmp_path}")).run()
    assert code == 1
    assert lines[0].startswith("FAILED ") and "test_one.py::test_it" in lines[0]
    assert lines[1].startswith("=") and "1 failed, 1 passed" in lines[1]
