"""`settle` is total, the breaker knows whose fault it is, and retries end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.delivery import (
    MESSAGE_LIFECYCLE,
    RANK,
    Accepted,
    Breaker,
    Deferred,
    Halted,
    Lost,
    MessageStatus,
    Rejected,
    Retry,
    Scope,
    Verdict,
    settle,
)

ZERO = timedelta(0)

words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
waits = st.none() | st.timedeltas(min_value=ZERO, max_value=timedelta(hours=2))
scopes = st.sampled_from(Scope)
verdicts: st.SearchStrategy[Verdict] = st.one_of(
    st.builds(Accepted, words, held=st.booleans()),
    st.builds(Deferred, words, words, waits, scopes),
    st.builds(Rejected, words, words, scopes, st.booleans(), st.integers(1, 20)),
    st.builds(Halted, words, words, st.sampled_from([Scope.CAMPAIGN, Scope.ACCOUNT])),
    st.builds(Lost, words, words),
)
chances = st.floats(0, 1, allow_nan=False)
attempts = st.integers(1, 1000)


@given(attempts, verdicts, chances)
def test_what_follows_is_a_move_that_the_lifecycle_knows(
    count: int, verdict: Verdict, chance: float
) -> None:
    settled = settle(count, verdict, retry=Retry(), chance=chance)
    assert settled.status in MESSAGE_LIFECYCLE[MessageStatus.QUEUED]
    assert settled == settle(count, verdict, retry=Retry(), chance=chance)


@given(attempts, verdicts, chances)
def test_only_what_surely_did_not_go_is_pending_again(
    count: int, verdict: Verdict, chance: float
) -> None:
    settled = settle(count, verdict, retry=Retry(), chance=chance)
    assert (settled.status is MessageStatus.SENT) is isinstance(verdict, Accepted)
    assert (settled.status is MessageStatus.IN_DOUBT) is isinstance(verdict, Lost)
    if settled.status is MessageStatus.PENDING:
        assert isinstance(verdict, Deferred | Halted)
        assert settled.wait >= ZERO
    else:
        assert not settled.give_back
        assert settled.cool is None
        assert settled.halt is None
    if settled.status not in (MessageStatus.SENT, MessageStatus.PENDING):
        assert settled.error_code
        assert settled.error_message


@given(attempts, verdicts, chances)
def test_an_attempt_is_given_back_when_nobody_could_have_sent_it(
    count: int, verdict: Verdict, chance: float
) -> None:
    settled = settle(count, verdict, retry=Retry(), chance=chance)
    throttled = isinstance(verdict, Deferred) and verdict.scope is Scope.ACCOUNT
    assert settled.give_back is (throttled or isinstance(verdict, Halted))
    assert (settled.cool is not None) is throttled
    assert (settled.halt is not None) is isinstance(verdict, Halted)
    assert settled.opt_out is (isinstance(verdict, Rejected) and verdict.opt_out)


@given(st.lists(st.sampled_from([Scope.MESSAGE, Scope.RECIPIENT]), min_size=6, max_size=6), chances)
def test_a_message_is_not_tried_for_ever(kinds: list[Scope], chance: float) -> None:
    """Whatever kinds of deferral come, six tries in a row end one way."""
    ends = [
        settle(count, Deferred("1", "no", None, scope), retry=Retry(), chance=chance).status
        for count, scope in enumerate(kinds, 1)
    ]
    assert MessageStatus.FAILED in ends


@pytest.mark.parametrize(("scope", "tries"), [(Scope.MESSAGE, 3), (Scope.RECIPIENT, 6)])
def test_how_often_is_tried(scope: Scope, tries: int) -> None:
    verdict = Deferred("131016", "busy", None, scope)
    settled = [settle(count, verdict, retry=Retry(), chance=0.5) for count in range(1, tries + 1)]
    assert {each.status for each in settled[:-1]} == {MessageStatus.PENDING}
    assert settled[-1].status is MessageStatus.FAILED
    assert f"given up after {tries} attempts" in (settled[-1].error_message or "")


@given(attempts, chances)
def test_waits_grow_and_are_bounded(count: int, chance: float) -> None:
    retry = Retry()
    assert retry.first * 0.75 <= retry.wait(count, chance) <= retry.longest * 1.25
    assert retry.wait(count, 0.5) <= retry.wait(count + 1, 0.5)
    assert timedelta(seconds=1) <= retry.wait_for_pair(count) <= timedelta(hours=1)
    assert retry.wait_for_pair(count) <= retry.wait_for_pair(count + 1)


def test_the_pair_waits_are_metas() -> None:
    waits = [Retry().wait_for_pair(count).total_seconds() for count in (1, 2, 3, 4)]
    assert waits == [1, 4, 16, 64]


@given(waits, chances)
def test_what_the_provider_asked_for_is_the_least(after: timedelta | None, chance: float) -> None:
    for scope in Scope:
        verdict = Deferred("4", "slow", after, scope)
        settled = settle(1, verdict, retry=Retry(), chance=chance)
        waited = settled.cool if scope is Scope.ACCOUNT else settled.wait
        assert waited is not None
        assert waited >= (after or ZERO)


# -- the breaker

MESSAGE_FAULT = Rejected("131009", "bad value", Scope.MESSAGE)
RECIPIENT_FAULT = Rejected("131026", "undeliverable", Scope.RECIPIENT)


def feed(breaker: Breaker, *verdicts: Verdict) -> list[str | None]:
    return [breaker.note(verdict) for verdict in verdicts]


def test_twenty_of_a_kind_in_a_row_stop_a_campaign() -> None:
    told = feed(Breaker(), *[MESSAGE_FAULT] * 20)
    assert told[:19] == [None] * 19
    assert told[19] is not None
    assert "131009" in told[19]


@pytest.mark.parametrize("limit", [1, 3, 5])
def test_a_fault_of_the_request_itself_stops_it_sooner(limit: int) -> None:
    verdict = Rejected("132000", "parameters", Scope.MESSAGE, halt_after=limit)
    told = feed(Breaker(), *[verdict] * limit)
    assert told[:-1] == [None] * (limit - 1)
    assert told[-1] is not None


def test_one_odd_row_among_good_ones_stops_nothing() -> None:
    verdict = Rejected("132000", "parameters", Scope.MESSAGE, halt_after=1)
    assert feed(Breaker(), Accepted("a"), verdict, verdict) == [None] * 3
    assert feed(Breaker(), Accepted("a"), verdict, verdict, verdict)[-1] is not None


@given(
    st.lists(
        st.sampled_from(
            [
                Accepted("a"),
                RECIPIENT_FAULT,
                Deferred("131056", "pair", None, Scope.RECIPIENT),
                Deferred("130429", "slow", None, Scope.ACCOUNT),
                Halted("190", "token"),
            ]
        ),
        max_size=300,
    )
)
def test_recipients_faults_and_throttling_never_trip_it(verdicts: list[Verdict]) -> None:
    assert set(feed(Breaker(), *verdicts)) <= {None}


@given(st.integers(0, 19), st.integers(0, 19))
def test_a_success_between_two_rows_of_failures_starts_the_count_anew(
    before: int, after: int
) -> None:
    verdicts: list[Verdict] = [MESSAGE_FAULT] * before
    verdicts += [Accepted("a")]
    verdicts += [MESSAGE_FAULT] * after
    assert set(feed(Breaker(), *verdicts)) <= {None}


def test_half_of_the_last_hundred_stop_it_although_never_in_a_row() -> None:
    breaker = Breaker()
    halves: list[Verdict] = [Accepted("a"), Lost("cut")]
    told = feed(breaker, *halves * 50)
    assert told[:99] == [None] * 99
    assert told[99] is not None
    assert "50 of the last 100" in told[99]
    mixed: list[Verdict] = [*halves, Accepted("b"), Deferred("131016", "busy")]
    assert set(feed(Breaker(), *mixed * 50)) == {None}, "two kinds are not one fault"


# -- the lifecycle of a message


def test_a_message_never_goes_back_down() -> None:
    for status, rank in RANK.items():
        for following in MESSAGE_LIFECYCLE[status]:
            assert following is MessageStatus.FAILED or RANK[following] > rank


def test_what_may_have_left_is_pending_again_only_by_proof_or_by_hand() -> None:
    assert set(MESSAGE_LIFECYCLE) == set(MessageStatus)
    back = {status for status, to in MESSAGE_LIFECYCLE.items() if MessageStatus.PENDING in to}
    assert back == {
        MessageStatus.QUEUED,
        MessageStatus.IN_DOUBT,
        MessageStatus.FAILED,
        MessageStatus.SKIPPED,
    }
    assert not back & set(RANK)
