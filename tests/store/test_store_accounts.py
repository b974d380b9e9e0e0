from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast.errors import NotFound, Refused, UsageError
from wabcast.store import accounts
from wabcast.store.accounts import Account
from wabcast.store.database import immediate

SHOP = Account(
    "shop", "cloud", {"phone_number_id": "106"}, {"token": "env:META"}, rate="80/s", daily_cap=250
)


def test_an_account_comes_back_as_it_was_added(db: Connection, clock: StillClock) -> None:
    added, new = accounts.add(db, SHOP, now=clock.now())
    assert new
    assert added == replace(
        SHOP, id=added.id, created_at="2026-11-05T10:00:00.000Z", updated_at=added.created_at
    )
    assert accounts.get(db, "shop") == added
    assert list(accounts.every(db)) == [added]


def test_the_same_again_changes_nothing_and_another_is_refused(
    db: Connection, clock: StillClock
) -> None:
    first, _ = accounts.add(db, SHOP, now=clock.now())
    clock.advance(60)
    assert accounts.add(db, SHOP, now=clock.now()) == (first, False)
    with pytest.raises(Refused) as caught:
        accounts.add(db, replace(SHOP, rate="20/m"), now=clock.now())
    assert "account edit shop" in caught.value.hint
    assert accounts.get(db, "shop") == first


def test_an_edit_keeps_what_it_does_not_name(db: Connection, clock: StillClock) -> None:
    first, _ = accounts.add(db, SHOP, now=clock.now())
    clock.advance(60)
    edited, changed = accounts.edit(
        db, "shop", lambda old: replace(old, rate="20/s", provider="waha"), now=clock.now()
    )
    assert changed
    assert edited == replace(first, rate="20/s", updated_at="2026-11-05T10:01:00.000Z")
    assert accounts.edit(db, "shop", lambda old: old, now=clock.now()) == (edited, False)


def test_a_rename_may_not_take_another_s_place(db: Connection, clock: StillClock) -> None:
    accounts.add(db, SHOP, now=clock.now())
    accounts.add(db, replace(SHOP, name="other"), now=clock.now())
    with pytest.raises(Refused, match="already"):
        accounts.edit(db, "shop", lambda old: replace(old, name="other"), now=clock.now())
    renamed, _ = accounts.edit(db, "shop", lambda old: replace(old, name="new"), now=clock.now())
    assert renamed.name == "new"


def test_an_unknown_name_tells_the_nearest(db: Connection, clock: StillClock) -> None:
    with pytest.raises(NotFound) as caught:
        accounts.get(db, "shop")
    assert "account add" in caught.value.hint
    accounts.add(db, SHOP, now=clock.now())
    with pytest.raises(NotFound) as caught:
        accounts.get(db, "shob")
    assert caught.value.hint == "did you mean 'shop'?"
    with pytest.raises(NotFound):
        accounts.remove(db, "zzz")


def test_an_account_with_campaigns_is_not_removed(db: Connection, clock: StillClock) -> None:
    added, _ = accounts.add(db, SHOP, now=clock.now())
    db.execute(
        "insert into campaigns (id, name, account_id, content, audience, created_at, updated_at)"
        " values ('c1', 'spring', ?, '{}', '{}', '', '')",
        (added.id,),
    )
    with pytest.raises(Refused, match="spring"):
        accounts.remove(db, "shop")
    db.execute("delete from campaigns")
    accounts.remove(db, "shop")
    assert list(accounts.every(db)) == []


@pytest.mark.parametrize("name", ["", " ", " a", "a\nb", "\x1b[2J", "-x", "a" * 65])
def test_a_name_is_one_line_that_can_be_typed(db: Connection, clock: StillClock, name: str) -> None:
    with pytest.raises(UsageError):
        accounts.add(db, replace(SHOP, name=name), now=clock.now())


@pytest.mark.parametrize("name", ["<b>x</b>", "[red]x", "a/b", "a?b", "a'b", 'a"b', "a&b", "{{a}}"])
def test_a_name_holds_no_markup_and_is_part_of_an_address(
    db: Connection, clock: StillClock, name: str
) -> None:
    with pytest.raises(UsageError, match="name has no"):
        accounts.add(db, Account(name, "sandbox"), now=clock.now())
    for good in ("Bücher & Co".replace("&", "+"), "shop.de_2 (old)", "店"):
        accounts.add(db, Account(good, "sandbox"), now=clock.now())
    with pytest.raises(UsageError, match="name has no"):
        accounts.edit(db, "店", lambda old: replace(old, name=name), now=clock.now())
    # One that is there from before may be changed, and renamed.
    with immediate(db):
        db.execute("update accounts set name = ? where name = '店'", (name,))
    accounts.edit(db, name, lambda old: replace(old, rate="5/s"), now=clock.now())
