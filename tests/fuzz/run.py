"""Draw bytes for every input from outside, for so many seconds, with bounds on the time and memory of each example.

    python -m tests.fuzz.run 3600 [--seed 1] [--only zip csv]

It prints the seed and the example of each fault, and adds the example to the corpus, which the unit tests read again.
"""

import argparse
import hashlib
import logging
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings

import tests.conftest  # noqa: F401  it sets Airflow's home
from tests.fuzz.targets import MARK, OWN_ERRORS, TARGETS, Target

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES_PER_ROUND = 200
SECONDS_PER_EXAMPLE, BYTES_PER_EXAMPLE = 10, 2 << 30


class TooSlowError(BaseException):
    """An example took too long; no code under test catches it."""


def check(target: Target, data: bytes) -> None:
    """Read one example; raise whatever is a fault."""
    try:
        target.read(data)
    except OWN_ERRORS as error:
        if MARK in str(error):
            raise AssertionError("the message has data of a learner") from None


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {SECONDS_PER_EXAMPLE} s")


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES_PER_EXAMPLE, resource.RLIM_INFINITY))


def fuzz(name: str, number: int, counts: Counter[str]) -> bool:
    """Draw a round of examples for an input. Return whether none is a fault."""
    target, last = TARGETS[name], b""

    @seed(number)
    @settings(
        max_examples=EXAMPLES_PER_ROUND,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=target.strategy)
    def read(data: bytes) -> None:
        nonlocal last
        last = data
        counts[name] += 1
        signal.alarm(SECONDS_PER_EXAMPLE)
        try:
            check(target, data)
        finally:
            signal.alarm(0)

    try:
        read()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        kept = CORPUS / name / hashlib.sha256(last).hexdigest()[:16]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(last)
        print(f"FAULT in {name}, seed {number}: {last[:200]!r} (kept as {kept})", flush=True)
        traceback.print_exception(error, limit=-6)
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", nargs="*", default=sorted(TARGETS), choices=sorted(TARGETS))
    parsed = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_slow)
    _limit_memory()
    counts: Counter[str] = Counter()
    names, started, number, faults = list(parsed.only), time.monotonic(), parsed.seed, 0
    while names and time.monotonic() < started + parsed.seconds:
        for name in [*names]:
            if not fuzz(name, number, counts):
                faults += 1
                names.remove(name)
        number += 1
    seconds = time.monotonic() - started
    examples = " ".join(f"{name}={count:,}" for name, count in sorted(counts.items()))
    rounds = number - parsed.seed
    print(f"seconds={seconds:.0f} examples={counts.total():,} seed={parsed.seed} rounds={rounds} faults={faults}")
    print(examples)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
