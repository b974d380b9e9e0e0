"""The rates are the file's own, the percentiles are those of the whole list."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection, connect

from wabcast import metrics
from wabcast.store.migrations import SCRIPTS

COUNTERS = (
    *("total_recipients", "messages_sent", "messages_delivered", "messages_read"),
    *("messages_replied", "messages_failed"),
)


@pytest.fixture(scope="module")
def columns() -> Connection:
    """The campaigns table as the migrations make it, with nobody to refer to."""
    db = connect(":memory:")
    db.executescript(SCRIPTS["m001_the_first_schema"].read_text(encoding="utf-8"))
    db.execute(
        "insert into campaigns (number, id, name, account_id, content, audience, created_at,"
        " updated_at) values (1, 'c', 'c', 1, '{}', '{}', '', '')"
    )
    return db


def in_sql(db: Connection, counters: dict[str, int]) -> dict[str, float | None]:
    db.execute(
        "update campaigns set total_recipients = :total_recipients,"
        " messages_sent = :messages_sent, messages_delivered = :messages_delivered,"
        " messages_read = :messages_read, messages_replied = :messages_replied,"
        " messages_failed = :messages_failed",
        counters,
    )
    row = db.execute(
        "select delivery_rate, read_rate, reply_rate, failure_rate from campaigns"
    ).fetchone()
    names = ("delivery_rate", "read_rate", "reply_rate", "failure_rate")
    return dict(zip(names, row, strict=True))


@given(st.lists(st.integers(0, 10**7), min_size=6, max_size=6))
def test_the_rates_are_the_generated_columns(columns: Connection, counts: list[int]) -> None:
    counters = dict(zip(COUNTERS, counts, strict=True))
    assert metrics.rates(counters) == in_sql(columns, counters)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, 16 * n), st.just(16 * n))))
def test_halves_are_rounded_as_sqlite_does(columns: Connection, pair: tuple[int, int]) -> None:
    part, whole = pair
    told = columns.execute("select round(100.0 * ? / ?, 2)", (part, whole)).fetchone()[0]
    assert metrics.rate(part, whole) == told


def test_a_rate_of_nothing_is_none() -> None:
    assert metrics.rate(0, 0) is None
    assert metrics.rate(1, 800) == 0.13  # Python's round says 0.12


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_least_that_so_many_do_not_exceed(
    lengths: list[int], share: int
) -> None:
    told = metrics.percentiles(sorted(Counter(lengths).items()), (share,))[f"p{share}"]
    assert told is not None
    assert sum(one <= told for one in lengths) * 100 >= share * len(lengths)
    assert sum(one < told for one in lengths) * 100 < share * len(lengths)


def test_no_lengths_have_no_percentiles() -> None:
    assert metrics.percentiles([]) == {"p50": None, "p90": None, "p99": None}


@given(st.floats(0, 10 * 365 * 86_400), st.integers(1, 200), st.sampled_from([1, 60, 3600]))
def test_a_step_goes_in_as_often_as_was_asked_and_no_smaller_one_would(
    seconds: float, most: int, grain: int
) -> None:
    step = metrics.step(seconds, most, grain)
    assert step >= 1
    assert step * most >= seconds * (1 - 1e-12)
    assert step % grain == 0
    assert step < 86_400 or step % 86_400 == 0


@given(st.lists(st.integers(0, 10**6)), st.sampled_from([metrics.BLOCKS, metrics.ASCII_BLOCKS]))
def test_a_spark_is_as_high_as_its_count(counts: list[int], blocks: str) -> None:
    line = metrics.spark(counts, blocks=blocks)
    if not any(counts):
        assert line == ""
        return
    assert len(line) == len(counts)
    assert [char == " " for char in line] == [count == 0 for count in counts]
    assert line[counts.index(max(counts))] == blocks[-1]
    heights = sorted(
        (count, (" " + blocks).index(char)) for count, char in zip(counts, line, strict=True)
    )
    assert [height for _, height in heights] == sorted(height for _, height in heights)
