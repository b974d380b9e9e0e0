"""What was uploaded is found again for as long as WhatsApp keeps it."""

from __future__ import annotations

from datetime import timedelta

from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast.store import accounts, media
from wabcast.store.accounts import Account


def test_an_id_is_taken_again_while_it_outlives_a_campaign(
    db: Connection, clock: StillClock
) -> None:
    shop, _ = accounts.add(db, Account("shop", "sandbox"), now=clock.now())
    other, _ = accounts.add(db, Account("other", "sandbox"), now=clock.now())
    media.keep(db, shop.id, "d1", "11", now=clock.now())
    assert media.find(db, shop.id, "d1", now=clock.now()) == "11"
    assert media.find(db, other.id, "d1", now=clock.now()) is None
    assert media.find(db, shop.id, "d2", now=clock.now()) is None
    clock.advance(media.LIFE - media.MARGIN - timedelta(seconds=1))
    assert media.find(db, shop.id, "d1", now=clock.now()) == "11"
    clock.advance(timedelta(seconds=1))
    assert media.find(db, shop.id, "d1", now=clock.now()) is None
    media.keep(db, shop.id, "d1", "12", now=clock.now())
    assert media.find(db, shop.id, "d1", now=clock.now()) == "12"


def test_what_has_expired_is_forgotten_with_the_next_upload(
    db: Connection, clock: StillClock
) -> None:
    shop, _ = accounts.add(db, Account("shop", "sandbox"), now=clock.now())
    media.keep(db, shop.id, "old", "11", now=clock.now())
    clock.advance(media.LIFE)
    media.keep(db, shop.id, "new", "12", now=clock.now())
    assert [row[0] for row in db.execute("select digest from media")] == ["new"]
