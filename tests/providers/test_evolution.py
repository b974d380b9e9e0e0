"""Evolution as it is spoken to, and what it tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import StillClock
from gateways import KEY, Evolution, served
from hypothesis import given, settings
from hypothesis import strategies as st

from wabcast.delivery import Accepted, Halted, Lost, Rejected, Scope
from wabcast.errors import UsageError
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.evolution import EvolutionProvider
from wabcast.receipts import Inbound, Person, Receipt, Status


def evolution(
    base_url: str = "http://evo:8080", key: str = KEY, **values: str
) -> EvolutionProvider:
    said = Settings("gate", {"base_url": base_url, "instance": "shop", **values})
    return EvolutionProvider(said, {"api_key": key}, timeout=5, clock=StillClock())


def text(to: str, body: str = "Hi") -> Message:
    return Message(to, {"type": "text", "text": {"body": body}}, "wabcast:c:1:1")


async def send(played: Evolution, *messages: Message, **values: str) -> list[Any]:
    provider = evolution(played.base_url, **values)
    try:
        return [await provider.send(message) for message in messages]
    finally:
        await provider.aclose()


async def test_a_text_as_it_leaves_and_its_id() -> None:
    with served(Evolution()) as played:
        told = await send(played, text("+4915112345611", "Hello Ana"))
    assert told == [Accepted("3EB0000000000000000001")]
    posted = ("POST", "/message/sendText/shop", {"number": "4915112345611", "text": "Hello Ana"})
    assert played.requests == [posted]


async def test_typing_is_left_to_the_gateway() -> None:
    with served(Evolution()) as played:
        await send(played, text("+4915112345611"), typing="yes")
    assert [body["delay"] for body in played.sent] == [2000]


async def test_media_go_by_link() -> None:
    part = {"link": "https://x.test/price.pdf", "caption": "Prices", "filename": "Prices.pdf"}
    message = Message("+4915112345611", {"type": "document", "document": part}, "r")
    with served(Evolution()) as played:
        (verdict,) = await send(played, message)
    assert isinstance(verdict, Accepted)
    assert played.requests[0][1:] == (
        "/message/sendMedia/shop",
        {
            "number": "4915112345611",
            "mediatype": "document",
            "mimetype": "application/pdf",
            "media": "https://x.test/price.pdf",
            "caption": "Prices",
            "fileName": "Prices.pdf",
        },
    )


async def test_what_it_says_no_with() -> None:
    with served(Evolution()) as played:
        told = await send(played, *(text(f"+49151123456{end}") for end in ("26", "63", "50", "02")))
    nobody, locked, crashed, empty = told
    assert nobody == Rejected("not_on_whatsapp", "the number is not on WhatsApp", Scope.RECIPIENT)
    assert isinstance(locked, Halted)
    assert (locked.code, locked.scope) == ("463", Scope.ACCOUNT)
    assert isinstance(crashed, Lost)
    assert isinstance(empty, Lost)


async def test_a_wrong_key_or_instance_halts_and_tells_no_key() -> None:
    with served(Evolution()) as played:
        for provider in (
            evolution(played.base_url, "wrong-key"),
            evolution(played.base_url, instance="x/y"),
        ):
            verdict = await provider.send(text("+4915112345611"))
            await provider.aclose()
            assert isinstance(verdict, Halted)
            assert "wrong-key" not in repr(verdict)
    assert played.requests[1][1] == "/message/sendText/x%2Fy"


async def test_the_number_is_looked_up_only_when_asked_for() -> None:
    with served(Evolution()) as played:
        (verdict,) = await send(played, text("+4915112345626"), check_numbers="yes")
    assert isinstance(verdict, Rejected)
    assert played.requests == [
        ("POST", "/chat/whatsappNumbers/shop", {"numbers": ["4915112345626"]})
    ]


async def test_the_instance_is_asked_how_it_is() -> None:
    words = []
    for state in ("open", "close", "connecting"):
        with served(Evolution(state)) as played:
            provider = evolution(played.base_url)
            health = await provider.check()
            words.append((health.ok, health.status))
            await provider.aclose()
    assert words == [(True, "CONNECTED"), (False, "close"), (False, "connecting")]


def webhook(event: str, data: object, **more: object) -> bytes:
    body = {"event": event, "instance": "shop", "data": data, "apikey": KEY, **more}
    return json.dumps(body).encode()


def test_a_webhook_is_believed_for_the_key_in_it() -> None:
    provider = evolution()
    assert provider.verify({}, webhook("messages.update", {}))
    assert not provider.verify({}, webhook("messages.update", {}, apikey="another"))
    assert not provider.verify({}, webhook("messages.update", {}, apikey=None))
    assert not provider.verify({}, webhook("messages.update", {}, apikey="\ud800"))
    for rubbish in (b"", b"[]", b"{", b"[" * 100_000):
        assert not provider.verify({}, rubbish)
    said = Settings("gate", {"base_url": "http://evo:8080", "instance": "shop"})
    keys = {"api_key": "the-servers", "webhook_secret": KEY}
    assert EvolutionProvider(said, keys).verify({}, webhook("messages.update", {}))


@settings(max_examples=25)  # each builds a provider of its own
@given(st.text(min_size=8, max_size=20), st.booleans(), st.text())
def test_no_key_is_kept_however_it_is_spelt(key: str, ascii: bool, said: str) -> None:  # noqa: A002
    key = "".join(c for c in key if c.isascii() and c.isprintable()).strip() + "-/key\\0"
    provider = evolution(key=key)
    payload = {"event": "x", "apikey": key, "data": {"message": {"conversation": f"{said} {key}"}}}
    kept = provider.redact(json.dumps(payload, ensure_ascii=ascii).encode("utf-8", "replace"))
    told = json.loads(kept)
    assert told["apikey"] == "***"
    assert key not in repr(told["data"]["message"]["conversation"])
    assert key not in told["data"]["message"]["conversation"]


def test_another_key_in_its_place_is_not_kept_either_nor_one_in_rubbish() -> None:
    provider = evolution()
    assert b"other-key" not in provider.redact(webhook("x", {}, apikey="other-key"))
    assert KEY.encode() not in provider.redact(b"{" + KEY.encode())


def test_redacting_changes_nothing_that_is_read() -> None:
    provider = evolution()
    data = {"key": {"id": "A1", "remoteJid": "4915112345611@s.whatsapp.net"}}
    body = webhook("messages.upsert", {**data, "message": {"conversation": "Zoë 👋 / \\"}})
    assert provider.parse(json.loads(provider.redact(body))) == provider.parse(json.loads(body))


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("SERVER_ACK", Status.SENT),
        ("DELIVERY_ACK", Status.DELIVERED),
        ("READ", Status.READ),
        ("PLAYED", Status.PLAYED),
        ("ERROR", Status.FAILED),
    ],
)
@pytest.mark.parametrize("event", ["messages.update", "MESSAGES_UPDATE", "messages-update"])
def test_an_update_is_a_receipt_by_the_wire_id(event: str, word: str, status: Status) -> None:
    data = {"keyId": "3EB0AB", "messageId": "cm0db", "remoteJid": "4915112345611@s.whatsapp.net"}
    data |= {"status": word}
    for told in (data, [data]):
        payload = json.loads(webhook(event, {**data, "fromMe": True} if told is data else told))
        (news,) = evolution().parse(payload)
        assert isinstance(news, Receipt)
        assert (news.message_id, news.status) == ("3EB0AB", status)
        assert news.person == Person("+4915112345611")


@pytest.mark.parametrize(
    "change",
    [{"status": "PENDING"}, {"status": "DELETED"}, {"fromMe": False}, {"keyId": None}],
)
def test_what_says_nothing_of_ours_is_no_news(change: dict[str, object]) -> None:
    data = {"keyId": "3EB0AB", "status": "READ", "fromMe": True, **change}
    assert evolution().parse(json.loads(webhook("messages.update", data))) == []


def test_another_instance_is_not_ours() -> None:
    body = webhook("messages.update", {"keyId": "A", "status": "READ"}, instance="other")
    assert evolution().parse(json.loads(body)) == []


def test_a_reply_from_a_hidden_number_knows_the_phone() -> None:
    data = {
        "key": {
            "remoteJid": "99887766@lid",
            "remoteJidAlt": "4915112345611@s.whatsapp.net",
            "addressingMode": "lid",
            "fromMe": False,
            "id": "A1",
        },
        "pushName": "Ana",
        "message": {"extendedTextMessage": {"text": "STOP"}},
        "contextInfo": {"stanzaId": "3EB0AB"},
        "messageType": "extendedTextMessage",
        "messageTimestamp": 1750030073,
    }
    (news,) = evolution().parse(json.loads(webhook("messages.upsert", data)))
    assert isinstance(news, Inbound)
    assert news.person == Person("+4915112345611", "99887766@lid")
    assert (news.text, news.context_id, news.name, news.kind) == ("STOP", "3EB0AB", "Ana", "text")
    data["key"]["fromMe"] = True  # type: ignore[index]  # a JSON value
    assert evolution().parse(json.loads(webhook("messages.upsert", data))) == []


def test_what_it_needs() -> None:
    with pytest.raises(UsageError, match="instance"):
        EvolutionProvider.validate({"base_url": "http://evo:8080"})
