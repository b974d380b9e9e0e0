"""Whatever stands in one field of a webhook: the news beside it is applied, and nothing is a bug.

Each provider's real bodies, with one value after the other replaced by what nobody expects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import StillClock
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.applier import Applier, Reader
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.providers.evolution import EvolutionProvider
from wabcast.providers.twilio import TwilioProvider
from wabcast.providers.waha import WahaProvider
from wabcast.store import database, inbox

PHONE = "4915112345611"
NOW = "1793872900"
ODD = [
    '"\\ud83d"',
    '"a\\u0000b"',
    '"253402300799"',
    "253402300799000",
    "253402300799",
    '"-1"',
    "0",
    "1e400",
    "-1e400",
    "NaN",
    "9" * 400,
    "9" * 5000,
    '"' + "9" * 5000 + '"',
    "null",
    "true",
    "[]",
    "{}",
    '[["x"]]',
    '{"id": "x"}',
    '""',
]
MARK = "@odd@"

STATUS = {
    "id": "wamid.1",
    "status": "delivered",
    "timestamp": NOW,
    "recipient_id": PHONE,
    "recipient_user_id": "DE.1",
    "biz_opaque_callback_data": "wabcast:c:1:1",
    "pricing": {"category": "marketing", "type": "regular"},
}
FAILED = {
    "id": "wamid.2",
    "status": "failed",
    "timestamp": NOW,
    "recipient_id": PHONE,
    "errors": [{"code": 131026, "title": "x", "error_data": {"details": "y"}}],
}
INBOUND = {
    "id": "wamid.3",
    "from": PHONE,
    "timestamp": NOW,
    "type": "text",
    "text": {"body": "hello"},
    "context": {"id": "wamid.1"},
}
WISH = {"wa_id": PHONE, "value": "resume", "category": "marketing_messages", "timestamp": NOW}
CONTACTS = [{"wa_id": PHONE, "user_id": "DE.1", "profile": {"name": "Ann"}}]
CLOUD: list[dict[str, Any]] = [
    {"statuses": [STATUS, FAILED], "contacts": CONTACTS, "metadata": {"phone_number_id": "1"}},
    {"messages": [INBOUND], "contacts": CONTACTS, "user_preferences": [WISH]},
]
TEMPLATE = {
    "event": "PAUSED",
    "message_template_id": 7,
    "message_template_name": "offer",
    "message_template_language": "en_US",
    "reason": "QUALITY",
    "other_info": {"title": "FIRST_PAUSE"},
}
ACCOUNT = {
    "event": "FLAGGED",
    "display_phone_number": "15550001",
    "current_limit": "TIER_1K",
    "max_daily_conversations_per_business": 2000,
    "ban_info": {"waba_ban_state": "NONE"},
}
MOVED = {"user_id": {"previous": "DE.2", "current": "DE.3"}}


def change(field: str, value: object) -> dict[str, object]:
    return {"field": field, "value": value}


def spots(value: object) -> Iterator[object]:
    """`value` again and again, each time with `MARK` in another place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: odd} for odd in spots(inner))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], odd, *value[at + 1 :]] for odd in spots(inner))
    yield MARK


def odd_bodies(whole: object) -> Iterator[bytes]:
    for value in spots(whole):
        said = json.dumps(value)
        for odd in ODD:
            yield said.replace(f'"{MARK}"', odd).encode()


SETTINGS = {
    "waha": {"base_url": "http://w"},
    "evolution": {"base_url": "http://e", "instance": "i"},
}
STOP = {"from": PHONE, "id": "in.stop", "timestamp": NOW, "type": "text", "text": {"body": "STOP"}}


@pytest.fixture
def person(make: Make) -> int:
    return make.contact(f"+{PHONE}", opted_out_at=None)


def applied(db: Connection, clock: StillClock, reader: Reader, bodies: list[bytes]) -> list[str]:
    """Apply them; what was wrong with any of them, but for what is no body at all."""
    with database.immediate(db):
        account = db.execute("select id from accounts").fetchone()[0]
        inbox.keep_all(db, [(account, body) for body in bodies], at="")
    Applier(clock, lambda _: reader, trace=True, reply_window=timedelta(hours=72)).all(db)
    assert inbox.count_waiting(db) == 0
    rows = db.execute("select error from webhook_inbox where error is not null").fetchall()
    return [str(row[0]) for row in rows]


def opted_out(db: Connection, person: int) -> bool:
    row = db.execute("select opted_out_at from contacts where id = ?", (person,)).fetchone()
    return row[0] is not None


@pytest.mark.parametrize(
    "odd",
    [
        *(change("messages", value) for value in CLOUD),
        change("message_template_status_update", TEMPLATE),
        change("phone_number_quality_update", ACCOUNT),
        change("account_update", ACCOUNT),
        change("user_id_update", MOVED),
    ],
    ids=lambda odd: f"{odd['field']}-{next(iter(odd['value']))}",
)
def test_clouds_news_beside_an_odd_one_is_applied(
    db: Connection, make: Make, clock: StillClock, person: int, odd: dict[str, Any]
) -> None:
    make.account()
    cloud = CloudProvider(Settings("c", {"phone_number_id": "1"}), {"token": "t"})
    stop = change("messages", {"messages": [STOP]})
    bodies = [
        b'{"entry": [{"changes": [' + body + b", " + json.dumps(stop).encode() + b"]}]}"
        for body in odd_bodies(odd)
    ]
    assert applied(db, clock, cloud, bodies) == []
    assert opted_out(db, person)


WAHA: list[dict[str, Any]] = [
    {
        "event": "message.ack",
        "session": "default",
        "timestamp": 1750030073123,
        "payload": {"id": "true_1@c.us_3EB0_2@c.us", "ack": 2, "to": "1@c.us", "fromMe": True},
    },
    {
        "event": "message",
        "session": "default",
        "payload": {
            "id": "false_1@c.us_3EB1",
            "timestamp": 1750030073,
            "from": f"{PHONE}@c.us",
            "body": "hi",
            "replyTo": {"id": "3EB0"},
            "hasMedia": False,
        },
    },
]
EVOLUTION: list[dict[str, Any]] = [
    {
        "event": "messages.update",
        "instance": "i",
        "data": {"keyId": "3EB0", "remoteJid": "1@s.whatsapp.net", "status": "READ"},
    },
    {
        "event": "messages.upsert",
        "instance": "i",
        "data": {
            "key": {"id": "3EB1", "remoteJid": f"{PHONE}@s.whatsapp.net", "fromMe": False},
            "messageTimestamp": 1750030073,
            "message": {"conversation": "hi"},
            "contextInfo": {"stanzaId": "3EB0"},
            "messageType": "conversation",
            "pushName": "Ann",
        },
    },
]


@pytest.mark.parametrize(
    ("kind", "bodies"),
    [(WahaProvider, WAHA), (EvolutionProvider, EVOLUTION)],
    ids=["waha", "evolution"],
)
def test_gateways_odd_news_is_no_bug(
    db: Connection,
    make: Make,
    clock: StillClock,
    person: int,
    kind: type[WahaProvider | EvolutionProvider],
    bodies: list[dict[str, Any]],
) -> None:
    del person
    make.account()
    provider = kind(Settings("g", SETTINGS[kind.name]), {"api_key": "key"})
    every = [body for one in bodies for body in odd_bodies(one)]
    wrong = applied(db, clock, provider, every)
    # A body that is no object at all is not read, and said to be so.
    assert all("has no attribute 'get'" in told for told in wrong), wrong
    assert len(wrong) <= len(ODD) * len(bodies)


TWILIO = [
    {"MessageSid": "SM1", "To": f"whatsapp:+{PHONE}", "MessageStatus": "failed", "ErrorCode": "1"},
    {"MessageSid": "SM2", "From": f"whatsapp:+{PHONE}", "Body": "hi", "ButtonText": "hi"},
]


def test_twilios_odd_forms_are_no_bug(
    db: Connection, make: Make, clock: StillClock, person: int
) -> None:
    make.account()
    provider = TwilioProvider(
        Settings("t", {"account_sid": "AC1", "from": "+15550001"}), {"auth_token": "x"}
    )
    odd = ["\x00", "a\x00b", "9" * 5000, "-1", "", "\udcff", "٣", "NaN"]
    bodies = [
        urlencode({**form, key: value}, errors="surrogateescape").encode()
        for form in TWILIO
        for key in form
        for value in odd
    ]
    bodies.append(
        urlencode({**TWILIO[1], "MessageSid": "SM9", "Body": "STOP\x00", "ButtonText": ""}).encode()
    )
    assert applied(db, clock, provider, bodies) == []
    assert opted_out(db, person)


@pytest.mark.parametrize("year", ["253402300799", "253402300799000", "4102444800"])
def test_a_wish_of_a_far_year_does_not_outlast_a_later_one(
    db: Connection, make: Make, clock: StillClock, person: int, year: str
) -> None:
    make.account()
    cloud = CloudProvider(Settings("c", {"phone_number_id": "1"}), {"token": "t"})
    start = {**STOP, "id": "in.start", "timestamp": year, "text": {"body": "START"}}
    for said in (start, STOP | {"timestamp": str(int(clock.now().timestamp()) + 60)}):
        clock.advance(60)
        whole = {"entry": [{"changes": [change("messages", {"messages": [said]})]}]}
        assert applied(db, clock, cloud, [json.dumps(whole).encode()]) == []
    assert opted_out(db, person)
