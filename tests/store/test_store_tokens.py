"""Tokens: what is kept of them, when they stand, and answers that are given once."""

from __future__ import annotations

import secrets
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import StillClock
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3.dbapi2 import Connection

from wabcast import tokens
from wabcast.errors import NotFound, Refused, UsageError
from wabcast.store import tokens as kept
from wabcast.store.database import connect
from wabcast.tokens import PERMISSIONS, ROLES, Role, Token


def make(db: Connection, clock: StillClock, name: str = "web", **how: object) -> tuple[str, Token]:
    token = tokens.mint(secrets.token_bytes(tokens.RANDOM))
    said: dict[str, object] = {"role": "viewer", "allow": (), "now": clock.now()} | how
    return token, kept.create(db, name, token, **said)  # type: ignore[arg-type]  # a test's words


def test_a_token_is_found_by_itself_and_by_nothing_near(db: Connection, clock: StillClock) -> None:
    token, row = make(db, clock)
    assert kept.find(db, token, clock.now()) == row
    for wrong in (token[:-1], token + "x", token.upper(), "", "wab__", f"wab_{row.key}_", row.key):
        assert kept.find(db, wrong, clock.now()) is None


def test_the_file_holds_no_token(db: Connection, clock: StillClock, db_path: Path) -> None:
    token, _ = make(db, clock)
    secret = token[-20:].encode()  # it may hold underscores itself
    db.execute("pragma wal_checkpoint(truncate)")
    for path in db_path.parent.glob(f"{db_path.name}*"):
        assert path.is_dir() or secret not in path.read_bytes()


def test_it_ends_with_its_time_and_when_it_is_revoked(db: Connection, clock: StillClock) -> None:
    brief, _ = make(db, clock, "brief", expires_at=clock.now() + timedelta(days=1))
    other, row = make(db, clock, "other")
    clock.advance(timedelta(days=1))
    assert kept.find(db, brief, clock.now()) is None
    assert kept.revoke(db, "other", at="2026-11-06T10:00:00.000Z")
    assert not kept.revoke(db, row.key, at="2026-11-07T10:00:00.000Z")
    assert kept.find(db, other, clock.now()) is None
    assert not kept.any_stands(db, clock.now())
    with pytest.raises(NotFound):
        kept.revoke(db, "nobody", at="")


def test_a_name_is_free_again_when_its_token_is_gone(db: Connection, clock: StillClock) -> None:
    make(db, clock)
    with pytest.raises(Refused):
        make(db, clock)
    kept.revoke(db, "web", at="2026-11-05T10:00:00.000Z")
    token, row = make(db, clock)
    assert kept.find(db, token, clock.now()) == row
    assert kept.revoke(db, "web", at="2026-11-05T10:00:00.000Z")
    assert kept.find(db, token, clock.now()) is None


def test_roles_hold_each_other_and_allow_adds() -> None:
    assert ROLES[Role.VIEWER] < ROLES[Role.OPERATOR] < ROLES[Role.ADMIN] == set(PERMISSIONS)
    assert tokens.allowed("viewer", ["campaigns:pause"]) == ROLES[Role.VIEWER] | {"campaigns:pause"}
    assert tokens.allowed(None, ["events:read"]) == {"events:read"}
    for name, role, allow in (
        ("", "viewer", ()),
        ("a\nb", "viewer", ()),
        ("-x", "viewer", ()),
        ("x" * 65, "viewer", ()),
        ("x", "root", ()),
        ("x", None, ("campaigns:begin",)),
        ("x", None, ()),
    ):
        with pytest.raises(UsageError):
            tokens.check(name, role, allow)


@given(st.binary(min_size=tokens.RANDOM, max_size=tokens.RANDOM))
def test_whatever_chance_gives_its_key_is_found_again(chance: bytes) -> None:
    token = tokens.mint(chance)
    assert tokens.key_of(token) == chance[:4].hex()
    assert tokens.matches(token, tokens.hashed(token))
    assert not tokens.matches(token, None)


@given(st.text())
def test_no_text_makes_the_looking_fail(said: str) -> None:
    assert not tokens.matches(said, "0" * 64)
    assert len(tokens.key_of(said)) in (0, 8)


def test_its_use_is_noted_now_and_then(db: Connection, clock: StillClock) -> None:
    _, row = make(db, clock)
    kept.used(db, row, clock.now())
    first = kept.every(db)[0].last_used_at
    clock.advance(30)
    kept.used(db, kept.every(db)[0], clock.now())
    assert kept.every(db)[0].last_used_at == first
    clock.advance(31)
    kept.used(db, kept.every(db)[0], clock.now())
    assert kept.every(db)[0].last_used_at != first


def test_one_of_many_claims_a_key(db: Connection, db_path: Path, clock: StillClock) -> None:
    _, row = make(db, clock)
    found: list[object] = []

    def ask() -> None:
        own = connect(db_path)
        found.append(kept.claim(own, row.id, "k", "request", clock.now()))
        own.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(None) == 1


def test_an_answer_is_kept_a_day_and_only_the_first(db: Connection, clock: StillClock) -> None:
    _, row = make(db, clock)
    assert kept.claim(db, row.id, "k", "a", clock.now()) is None
    kept.answer(db, row.id, "k", 201, {"x": "y"}, b"first")
    kept.answer(db, row.id, "k", 500, {}, b"second")
    kept.let_go(db, row.id, "k")
    given = kept.claim(db, row.id, "k", "b", clock.now())
    assert given == kept.Given("a", 201, {"x": "y"}, b"first")
    clock.advance(timedelta(hours=24, seconds=1))
    assert kept.claim(db, row.id, "k", "b", clock.now()) is None
    kept.let_go(db, row.id, "k")
    assert kept.claim(db, row.id, "k", "c", clock.now()) is None
