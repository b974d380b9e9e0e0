"""Templates in the file: ours and WhatsApp's, and what a campaign takes of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast.clock import text
from wabcast.errors import BadContent, NotFound, Refused, UsageError
from wabcast.providers.sandbox_templates import TEMPLATES
from wabcast.store import accounts, events, templates
from wabcast.store.accounts import Account
from wabcast.store.templates import Synced

AT = "2026-11-05T10:00:00.000Z"
HELLO = {"type": "text", "text": {"body": "Hello {{ firstName }}", "preview_url": False}}


@pytest.fixture
def shop(db: Connection, clock: StillClock) -> Account:
    account, _ = accounts.add(db, Account("shop", "sandbox"), now=clock.now())
    templates.sync(db, account, TEMPLATES, at=AT)
    return account


def add(db: Connection, name: str, body: dict[str, Any] | None = None) -> bool:
    return templates.add(db, name, body or HELLO, description=None, at=AT)[1]


def test_one_of_ours_is_kept_once_and_said_as_it_is(db: Connection, shop: Account) -> None:
    assert add(db, "hello")
    assert not add(db, "hello")
    with pytest.raises(Refused, match="with another content"):
        add(db, "hello", {"type": "text", "text": {"body": "Other"}})
    assert templates.content(db, "hello", shop.name, None, {}) == HELLO
    with pytest.raises(UsageError, match="--lang and --param"):
        templates.content(db, "hello", shop.name, "en", {})
    assert [saved.name for saved in templates.remove(db, "hello")] == ["hello"]
    with pytest.raises(NotFound):
        templates.get(db, "hello")


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("", HELLO, "not a name"),
        ("-x", HELLO, "not a name"),
        ("a\nb", HELLO, "not a name"),
        ("x" * 513, HELLO, "at most 512"),
        ("greeting", HELLO, "of WhatsApp's, on account shop"),
        ("x", {"type": "text", "text": {"body": "Hi {{ first name }}"}}, "text.body"),
        ("x", {"type": "image", "image": {}}, "needs one of link"),
        ("x", {"type": "image", "image": {"link": "{{ i }}", "caption": "{{ c }}"}}, None),
    ],
)
def test_what_could_not_be_said_is_not_kept(
    db: Connection, shop: Account, name: str, body: dict[str, Any], told: str | None
) -> None:
    if told is None:
        assert add(db, name, body)
        return
    with pytest.raises((UsageError, Refused), match=told):
        add(db, name, body)


def test_a_sync_takes_over_what_is_there_and_marks_what_is_gone(
    db: Connection, shop: Account
) -> None:
    assert templates.sync(db, shop, TEMPLATES, at=AT) == Synced(unchanged=len(TEMPLATES))
    now: list[dict[str, Any]] = copy.deepcopy(list(TEMPLATES[1:]))
    now[0]["status"] = "PAUSED"
    now += [{"name": "new", "language": "en", "status": "PENDING"}, {"name": 7}, {}]
    assert templates.sync(db, shop, now, at=AT) == Synced(1, 1, len(TEMPLATES) - 2, 1)
    assert templates.sync(db, shop, now, at=AT) == Synced(unchanged=len(TEMPLATES))
    status = {(s.name, s.language): s.status for s in templates.every(db, "shop")}
    assert status["hello_world", "en_US"] == "DELETED"
    assert status["greeting", "en_US"] == "PAUSED"
    assert status["new", "en"] == "PENDING"
    told = [(e["data"]["name"], e["data"]["status"]) for e in events.since(db, 0)]
    assert told == [("greeting", "PAUSED"), ("hello_world", "DELETED")]
    back = templates.sync(db, shop, TEMPLATES, at=AT)
    assert (back.changed, back.gone) == (2, 1)


def test_news_of_a_webhook_is_truer_than_the_definition(db: Connection, shop: Account) -> None:
    news = "update templates set status = :status where name = 'spring_offer'"
    params = {"1": "x", "header.image": "https://x.example/a.jpg"}
    for status, goes in (("PAUSED", False), ("REINSTATED", True), ("LOCKED", False)):
        db.execute(news, {"status": status})
        if goes:
            assert templates.content(db, "spring_offer", "shop", None, params)
            continue
        with pytest.raises(BadContent, match=status):
            templates.content(db, "spring_offer", "shop", None, params)


@pytest.mark.parametrize(
    ("name", "lang", "params", "language"),
    [
        ("hello_world", None, {}, "en_US"),
        ("greeting", "de", {"1": "a", "2": "b"}, "de"),
        ("greeting", "fr, en", {"1": "a", "2": "b"}, "en_US"),
        (
            "greeting",
            "{{ language }}, en",
            {"1": "{{ firstName }}", "2": "b"},
            "{{ language }}, en",
        ),
    ],
)
def test_one_of_whatsapp_s_becomes_a_template_to_fill(
    db: Connection,
    shop: Account,
    name: str,
    lang: str | None,
    params: dict[str, str],
    language: str,
) -> None:
    assert templates.content(db, name, "shop", lang, params) == {
        "type": "template",
        "template": {"name": name, "language": language, "params": params},
    }


@pytest.mark.parametrize(
    ("name", "lang", "params", "error", "told"),
    [
        ("nowhere", None, {}, NotFound, "no template 'nowhere' on account shop"),
        ("greeting", None, {"1": "a", "2": "b"}, UsageError, "is there in de, en_US"),
        ("greeting", "fr", {"1": "a", "2": "b"}, Refused, "not there in fr"),
        ("greeting", "de", {"1": "a"}, BadContent, "no value for the parameter 2"),
        ("greeting", "de", {"1": "a", "2": "b", "3": "c"}, BadContent, "no parameter 3"),
        ("greeting", "{{ language }}", {"1": "a"}, BadContent, "no value for the parameter 2"),
        ("greeting", "{{ a b }}", {}, BadContent, "language"),
        ("paused_offer", None, {"1": "a"}, BadContent, "PAUSED"),
        ("rejected_offer", None, {"1": "a"}, BadContent, "REJECTED"),
        ("disabled_offer", "en_US", {"1": "a"}, BadContent, "DISABLED"),
    ],
)
def test_what_could_go_to_nobody_is_refused(
    db: Connection,
    shop: Account,
    name: str,
    lang: str | None,
    params: dict[str, str],
    error: type[Exception],
    told: str,
) -> None:
    with pytest.raises(error, match=told):
        templates.content(db, name, "shop", lang, params)


def test_an_unknown_one_tells_how_to_fetch_it(db: Connection, clock: StillClock) -> None:
    accounts.add(db, Account("empty", "sandbox"), now=clock.now())
    with pytest.raises(NotFound) as caught:
        templates.content(db, "greeting", "empty", None, {})
    assert "wabcast template sync --account empty" in caught.value.hint


def test_two_of_the_same_name_are_told_apart(
    db: Connection, shop: Account, clock: StillClock
) -> None:
    other, _ = accounts.add(db, Account("other", "sandbox"), now=clock.now())
    add(db, "menu")
    menu = {"name": "menu", "language": "en", "status": "APPROVED", "category": "UTILITY"}
    templates.sync(db, other, [menu], at=text(clock.now()))
    assert templates.get(db, "menu")[0].account is None
    assert templates.get(db, "menu", "other")[0].account == "other"
    assert templates.content(db, "menu", "shop", None, {}) == HELLO
    with pytest.raises(Refused, match="of yours and one of WhatsApp's"):
        templates.content(db, "menu", "other", None, {})
    asked = templates.content(db, "menu", "other", "en", {})
    assert asked["template"] == {"name": "menu", "language": "en", "params": {}}
    templates.sync(db, shop, [menu], at=text(clock.now()))
    templates.remove(db, "menu")
    with pytest.raises(UsageError, match="several accounts"):
        templates.get(db, "menu")
    with pytest.raises(UsageError, match="several accounts"):
        templates.content(db, "menu", None, None, {})
    assert templates.content(db, "menu", "shop", None, {}) == asked


def test_an_account_for_marketing_takes_marketing_only(db: Connection, clock: StillClock) -> None:
    settings = {"endpoint": "marketing_messages"}
    account, _ = accounts.add(db, Account("mm", "sandbox", settings), now=clock.now())
    templates.sync(db, account, TEMPLATES, at=AT)
    assert templates.content(db, "coupon", "mm", None, {"1": "a", "button.0": "SAVE25"})
    with pytest.raises(BadContent, match="takes MARKETING only"):
        templates.content(db, "hello_world", "mm", None, {})


def test_a_local_file_is_named_in_full(
    db: Connection, shop: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = templates.content(
        db, "spring_offer", "shop", None, {"1": "x", "header.image": "./spring.jpg"}
    )
    assert made["template"]["params"]["header.image"] == str(tmp_path / "spring.jpg")
    assert made["template"]["params"]["1"] == "x"
