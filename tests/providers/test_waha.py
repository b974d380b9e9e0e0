"""WAHA as it is spoken to, and what it tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import StillClock
from gateways import KEY, Waha, served
from hypothesis import given
from hypothesis import strategies as st

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected
from wabcast.errors import Refused, UsageError
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.waha import WahaProvider, bare
from wabcast.receipts import Inbound, Person, Receipt, Status

VECTOR = b'{"event":"message","session":"default","engine":"WEBJS"}'
VECTOR_KEY = "my-secret-key"
# PROVIDERS 6.2, recomputed there.
VECTOR_HMAC = (
    "208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8"
    "097c462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89"
)


def waha(base_url: str = "http://waha:3000", key: str = KEY, **values: str) -> WahaProvider:
    secrets = {"api_key": key, "webhook_secret": VECTOR_KEY}
    settings = Settings("gate", {"base_url": base_url, **values})
    return WahaProvider(settings, secrets, timeout=5, clock=StillClock())


def text(to: str, body: str = "Hi") -> Message:
    return Message(to, {"type": "text", "text": {"body": body}}, "wabcast:c:1:1")


async def send(played: Waha, *messages: Message, **values: str) -> list[Any]:
    provider = waha(played.base_url, **values)
    try:
        return [await provider.send(message) for message in messages]
    finally:
        await provider.aclose()


@pytest.mark.parametrize("engine", ["NOWEB", "WEBJS", "2026.7.1", "GOWS"])
async def test_each_engine_spells_the_id_its_way_and_means_the_bare_one(engine: str) -> None:
    with served(Waha(engine)) as played:
        told = await send(played, text("+4915112345611", "Hello Ana"))
    assert told == [Accepted("3EB0000000000000000001")]
    body = {"session": "default", "chatId": "4915112345611@c.us", "text": "Hello Ana"}
    assert played.sent == [body]


async def test_what_it_says_no_with() -> None:
    with served(Waha()) as played:
        numbers = ("63", "02", "50", "29")
        told = await send(played, *(text(f"+49151123456{end}") for end in numbers))
    kinds = [Halted, Lost, Lost, Deferred]
    assert [type(verdict) for verdict in told] == kinds
    assert told[0].code == "463"
    assert told[1].code == "no_id"


async def test_a_session_that_is_not_working_halts() -> None:
    with served(Waha(status="SCAN_QR_CODE")) as played:
        (verdict,) = await send(played, text("+4915112345611"))
    assert isinstance(verdict, Halted)
    assert "SCAN_QR_CODE" in verdict.reason


@pytest.mark.parametrize(
    ("kind", "link", "path", "mime"),
    [
        ("image", "https://x.test/a.png", "/api/sendImage", "image/png"),
        ("image", "https://x.test/a?size=2", "/api/sendImage", "image/jpeg"),
        ("video", "https://x.test/a.mp4", "/api/sendVideo", "video/mp4"),
        ("audio", "https://x.test/a", "/api/sendVoice", "audio/ogg; codecs=opus"),
        ("document", "https://x.test/price%20list.pdf?v=1", "/api/sendFile", "application/pdf"),
    ],
)
async def test_media_go_by_link(kind: str, link: str, path: str, mime: str) -> None:
    part = {"link": link, **({} if kind == "audio" else {"caption": "See"})}
    message = Message("+4915112345611", {"type": kind, kind: part}, "r")
    with served(Waha()) as played:
        (verdict,) = await send(played, message)
    assert isinstance(verdict, Accepted)
    method, asked, body = played.requests[0]
    assert (method, asked) == ("POST", path)
    assert (body["file"]["mimetype"], body["file"]["url"]) == (mime, link)
    assert body.get("caption") == part.get("caption")


async def test_the_number_is_looked_up_only_when_asked_for_and_its_chat_is_believed() -> None:
    with served(Waha()) as played:
        plain = await send(played, text("+4915112345626"))
        assert isinstance(plain[0], Accepted)
        asked = await send(
            played, text("+4915112345626"), text("+5511987654311"), check_numbers="yes"
        )
    assert asked[0] == Rejected("not_on_whatsapp", "the number is not on WhatsApp")
    assert isinstance(asked[1], Accepted)
    assert [body["chatId"] for body in played.sent] == ["4915112345626@c.us", "551187654311@c.us"]


async def test_typing_is_shown_to_the_chat_that_gets_the_message() -> None:
    with served(Waha()) as played:
        await send(played, text("+5511987654311"), typing="yes", check_numbers="yes")
    posts = [(path, body["chatId"]) for method, path, body in played.requests if method == "POST"]
    chat = "551187654311@c.us"
    assert posts == [(f"/api/{verb}", chat) for verb in ("startTyping", "stopTyping", "sendText")]


@pytest.mark.parametrize(
    ("status", "ok", "told", "advice"),
    [
        ("WORKING", True, "CONNECTED", ""),
        ("SCAN_QR_CODE", False, "SCAN_QR_CODE", "connect the phone"),
        ("FAILED", False, "FAILED", "connect the phone"),
    ],
)
async def test_the_session_is_asked_how_it_is(
    status: str, ok: bool, told: str, advice: str
) -> None:
    with served(Waha(status=status)) as played:
        provider = waha(played.base_url)
        health = await provider.check()
        await provider.aclose()
    assert (health.ok, health.status) == (ok, told)
    assert advice in " ".join(health.problems)


async def test_a_wrong_key_an_unknown_session_and_no_gateway_are_told_apart() -> None:
    with served(Waha()) as played:
        words = []
        for provider in (waha(played.base_url, "other-key"), waha(played.base_url, session="x")):
            words.append((await provider.check()).status)
            await provider.aclose()
    gone = waha(played.base_url)
    words.append((await gone.check()).status)
    await gone.aclose()
    assert words == ["TOKEN", "UNKNOWN_NUMBER", "UNREACHABLE"]


def test_the_signature_is_hmac_sha512_of_the_raw_body() -> None:
    provider = waha()
    good = {"X-Webhook-Hmac": VECTOR_HMAC, "X-Webhook-Hmac-Algorithm": "sha512"}
    assert provider.verify(good, VECTOR)
    assert provider.verify({key.lower(): value for key, value in good.items()}, VECTOR)
    assert not provider.verify(good, VECTOR + b" ")
    assert not provider.verify({**good, "X-Webhook-Hmac": VECTOR_HMAC[:-1] + "8"}, VECTOR)
    assert not provider.verify({**good, "X-Webhook-Hmac-Algorithm": "md5"}, VECTOR)
    assert not provider.verify({**good, "X-Webhook-Hmac": "ü"}, VECTOR)
    unkeyed = WahaProvider(Settings("g", {"base_url": "http://w"}), {"api_key": KEY})
    assert not unkeyed.verify(good, VECTOR)


def ack(number: int, **more: object) -> dict[str, Any]:
    payload = {
        "id": "true_11111111111@c.us_4CC5EDD64BC22EBA6D639F2AF571346C",
        "from": "4915100000011@c.us",
        "participant": None,
        "fromMe": True,
        "ack": number,
        **more,
    }
    envelope = {"id": "evt_1", "timestamp": 1750030073123, "event": "message.ack"}
    return {**envelope, "session": "default", "engine": "WEBJS", "payload": payload}


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (1, Status.SENT),
        (2, Status.DELIVERED),
        (3, Status.READ),
        (4, Status.PLAYED),
        (-1, Status.FAILED),
    ],
)
def test_an_ack_is_a_receipt(number: int, status: Status) -> None:
    (news,) = waha().parse(ack(number))
    assert isinstance(news, Receipt)
    assert (news.message_id, news.status) == ("4CC5EDD64BC22EBA6D639F2AF571346C", status)
    assert (news.error is not None) == (status is Status.FAILED)
    assert news.at is not None
    assert news.at.isoformat() == "2025-06-15T23:27:53.123000+00:00"
    assert news.person == Person("+11111111111")


@pytest.mark.parametrize(
    "payload",
    [
        ack(0),
        ack(7),
        ack(1, ack="1"),
        ack(1, ack=True),
        ack(1, id=None),
        ack(1, fromMe=False),
        {**ack(1), "session": "another"},
        {**ack(1), "payload": [1]},
        {**ack(1), "event": "session.status"},
    ],
)
def test_what_says_nothing_of_ours_is_no_news(payload: dict[str, Any]) -> None:
    assert waha().parse(payload) == []


def test_an_id_that_hides_the_number_is_learnt_and_answers_to_it() -> None:
    receipt, inbound = (
        waha().parse(ack(2, id="true_99887766@lid_3EB0AA_4915112345611@c.us"))[0],
        waha().parse(
            {
                "event": "message",
                "payload": {"id": "false_99887766@lid_A1", "from": "99887766@lid", "body": "STOP"},
            }
        )[0],
    )
    assert isinstance(receipt, Receipt)
    assert isinstance(inbound, Inbound)
    assert receipt.message_id == "3EB0AA"
    assert receipt.person == inbound.person == Person(None, "99887766@lid")


def test_a_reply_names_what_it_answers_and_our_own_messages_are_none() -> None:
    told = {
        "id": "false_4915112345611@c.us_AAAA",
        "timestamp": 1750030073,
        "from": "4915112345611@c.us",
        "fromMe": False,
        "body": "Yes",
        "hasMedia": False,
        "replyTo": {"id": "true_4915112345611@c.us_3EB0AB"},
    }
    for event in ("message", "message.any"):
        (news,) = waha().parse({"event": event, "session": "default", "payload": told})
        assert isinstance(news, Inbound)
        assert (news.message_id, news.context_id, news.text) == ("AAAA", "3EB0AB", "Yes")
        assert news.person.phone == "+4915112345611"
        assert waha().parse({"event": event, "payload": {**told, "fromMe": True}}) == []


def test_what_it_cannot_do_is_refused_with_a_way_out() -> None:
    for values in ({}, {"base_url": "http://w", "colour": "red"}, {"base_url": "nonsense"}):
        with pytest.raises(UsageError):
            WahaProvider.validate(values)
    with pytest.raises(UsageError, match="yes or no"):
        WahaProvider.validate({"base_url": "http://w", "typing": "maybe"})
    with pytest.raises(Refused):
        WahaProvider.validate({"base_url": "http://waha.example.com"})
    with pytest.raises(UsageError, match="character"):
        waha(key="a\nb")
    with pytest.raises(UsageError, match="api_key"):
        WahaProvider(Settings("g", {"base_url": "http://w"}), {})


async def test_templates_and_uploads_are_refused() -> None:
    provider = waha()
    with pytest.raises(Refused):
        await provider.templates()
    with pytest.raises(Refused, match="by link"):
        await provider.upload("a.jpg", "image/jpeg", b"")
    await provider.aclose()


TELLING = ("id", "ack", "from", "timestamp", "fromMe", "replyTo", "body")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(TELLING) | st.text(), inner),
)
PROVIDER = waha()


@given(ANYTHING)
def test_whatever_an_ack_or_a_message_holds_is_survived(payload: object) -> None:
    for event in ("message", "message.ack"):
        for news in PROVIDER.parse({"event": event, "payload": payload}):
            assert isinstance(news, Receipt | Inbound)
            json.dumps(news.message_id)


def test_the_bare_id_of_a_bare_id_is_itself() -> None:
    assert bare("3EB0AB") == "3EB0AB"
    assert bare("true_1@c.us_3EB0AB_2@c.us") == "3EB0AB"
    assert bare("") is bare(None) is bare(7) is None
