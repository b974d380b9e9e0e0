"""What a child reads ahead arrives as if nobody had been between, its ends included."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from wabcast.aside import ahead
from wabcast.errors import Refused, WabcastError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="a fork is trusted on Linux alone"),
    # pytest-timeout has a thread, which the child neither needs nor has.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def test_items_come_in_order_from_another_process() -> None:
    with ahead((nr, os.getpid(), {"name": "Zoë"}) for nr in range(3000)) as items:
        found = list(items)
    assert [nr for nr, _, _ in found] == list(range(3000))
    assert {name["name"] for _, _, name in found} == {"Zoë"}
    assert os.getpid() not in {pid for _, pid, _ in found}


def test_a_refusal_is_the_same_on_this_side() -> None:
    def refusing() -> Iterator[int]:
        yield 1
        raise Refused("line 2 is too long", hint="is it a table?")

    with ahead(refusing()) as items:
        assert next(items) == 1
        with pytest.raises(Refused, match="line 2 is too long") as caught:
            next(items)
    assert caught.value.hint == "is it a table?"


def test_a_bug_brings_its_traceback_along() -> None:
    with ahead(1 // nr for nr in (1, 0)) as items:
        assert next(items) == 1
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            next(items)


def test_a_child_that_is_killed_does_not_pass_for_the_end() -> None:
    def dying() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), signal.SIGKILL)

    with ahead(dying()) as items:
        assert next(items) == 1
        with pytest.raises(WabcastError, match="was killed"):
            next(items)


def test_whoever_has_seen_enough_waits_for_no_endless_child() -> None:
    with ahead(os.getpid() for _ in itertools.count()) as items:
        child = next(items)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
