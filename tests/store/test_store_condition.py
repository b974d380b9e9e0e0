"""What WhatsApp says of an account is kept, is a part of its pace, and stops only at a fall."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.clock import Clock
from wabcast.pacing import Rate
from wabcast.receipts import AccountNews
from wabcast.store import accounts, condition, halts, receipts, slots
from wabcast.store.condition import Told
from wabcast.store.database import immediate

NOW = 1_800_000_000_000_000


@pytest.mark.parametrize(
    ("tier", "people"),
    [
        ("TIER_250", 250),
        ("TIER_2K", 2_000),
        ("TIER_100K", 100_000),
        ("TIER_UNLIMITED", None),
        ("TIER_NOT_SET", 7),
        ("TIER_0", 7),
        ("", 7),
        (None, 7),
    ],
)
def test_the_tier_is_the_cap_where_nobody_named_one(
    db: Connection, make: Make, tier: str | None, people: int | None
) -> None:
    account = make.account()
    db.execute("update accounts set tier = 7")
    condition.note(db, account.id, Told(tier=tier), at=make.at)
    assert accounts.get(db, "shop").people == people
    capped = make.account("capped", daily_cap=20)
    condition.note(db, capped.id, Told(tier=tier), at=make.at)
    assert accounts.get(db, "capped").people == 20


def test_the_throughput_is_the_rate_where_nobody_named_one(db: Connection, make: Make) -> None:
    account, named = make.account(), make.account("named", rate="5/s")
    usual = Rate.parse("80/s")
    for level, rate in (("HIGH", "1000/s"), (None, "1000/s"), ("COEXISTENCE", "20/s")):
        for number in (account.id, named.id):
            condition.note(db, number, Told(throughput=level), at=make.at)
        assert str(slots.lease(db, account.id, now=NOW, usual=usual).rate) == rate
        assert str(slots.lease(db, named.id, now=NOW, usual=usual).rate) == "5/s"
    condition.note(db, account.id, Told(throughput="STANDARD"), at=make.at)
    assert slots.lease(db, account.id, now=NOW, usual=usual).rate == usual


def test_only_a_fall_to_red_pauses_and_a_person_may_go_on(db: Connection, make: Make) -> None:
    spring = make.campaign("spring", people=1, status="running", run_id="r")
    for quality, fell in (("RED", False), ("GREEN", False), ("YELLOW", False), (None, False)):
        assert halts.heed(db, spring.account_id, Told(quality), at=make.at) is fell
    assert make.look(spring).status == "running"
    assert halts.heed(db, spring.account_id, Told("RED"), at=make.at)
    paused = make.look(spring)
    assert (paused.status, paused.reason) == ("paused", halts.FELL)
    again = make.campaign("again", people=1, status="running", run_id="r")
    assert not halts.heed(db, spring.account_id, Told("RED"), at=make.at)
    assert make.look(again).status == "running"
    assert slots.lease(db, spring.account_id, now=NOW).slowed
    assert condition.red_since(db, spring.account_id) == make.at
    assert not halts.heed(db, spring.account_id, Told("NA"), at=make.at)
    assert not slots.lease(db, spring.account_id, now=NOW).slowed
    assert condition.red_since(db, spring.account_id) is None


def test_webhooks_tell_it_too_of_this_number_alone(db: Connection, make: Make) -> None:
    spring = make.campaign("spring", people=1, status="running", run_id="r")

    def told(phone: str | None = "+15550783881", **news: str) -> accounts.Account:
        item = AccountNews("phone_number_quality_update", "", phone=phone, **news)  # type: ignore[arg-type]
        with immediate(db):
            receipts.apply(db, spring.account_id, [item], at=make.at)
        return accounts.get(db, "shop")

    account = told(tier="TIER_2K", throughput="HIGH", quality="RED")
    assert (account.tier, account.own_rate, account.quality) == (2000, None, None)
    condition.note(db, account.id, Told("GREEN", number="+1 555-078-3881"), at=make.at)
    for other in (None, "+15550783882"):
        assert told(other, quality="RED").quality == "GREEN"
    account = told(throughput="HIGH", quality="YELLOW")
    assert (account.own_rate, account.quality) == ("1000/s", "YELLOW")
    assert told(quality="RED").quality == "RED"
    assert make.look(spring).status == "paused"


def test_another_number_begins_anew(db: Connection, make: Make) -> None:
    account = make.account()
    condition.note(db, account.id, Told("RED", "TIER_250", "HIGH"), at=make.at)
    for settings, tier in (({}, 250), ({"phone_number_id": "2"}, None)):
        changed = partial(replace, settings=settings, rate="9/s")
        accounts.edit(db, "shop", changed, now=Clock().now())
        assert accounts.get(db, "shop").tier == tier
    assert condition.red_since(db, account.id) is None
