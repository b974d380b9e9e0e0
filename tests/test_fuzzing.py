"""A second of fuzzing for every reader; `make fuzz` is an hour of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import MEGABYTES, TARGETS, bounded

from wabcast.errors import Refused

FUZZING = Path(__file__).with_name("fuzzing.py")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_a_bug_takes_a_second_or_a_hundred_megabytes(target: str) -> None:
    ran = subprocess.run(
        [sys.executable, FUZZING, target, "--seconds", "1"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(ran.stdout) > 0


def test_the_fuzzer_finds_a_bug_a_slow_reader_and_a_large_one() -> None:
    def bug(_told: object) -> None:
        raise KeyError("x")

    def slow(_told: object) -> None:
        for _ in range(60_000_000):
            pass

    def refused(_told: object) -> None:
        raise Refused("no")

    bounded(refused, "")
    with pytest.raises(KeyError):
        bounded(bug, "")
    with pytest.raises(AssertionError, match=r"takes .* s"):
        bounded(slow, "")
    code = f"import fuzzing; fuzzing.bounded(lambda _: bytearray({MEGABYTES + 50} << 20), '')"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=FUZZING.parent, capture_output=True, text=True
    )
    assert "AssertionError: takes 1" in ran.stderr
    assert "MB" in ran.stderr
