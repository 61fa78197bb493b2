"""The examples that `make fuzz` has kept, and some that are known to be hard, are read without a fault."""

from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, check
from tests.fuzz.targets import TARGETS

KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", KEPT, ids=[f"{path.parent.name}-{path.name}" for path in KEPT])
def test_a_kept_example_is_read_or_refused(path: Path) -> None:
    check(TARGETS[path.parent.name], path.read_bytes())
