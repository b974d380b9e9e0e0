"""What the Cloud provider needs, asks and proves; sending is in its contract and the sandbox's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wabcast.errors import Refused, UsageError
from wabcast.message import Message, encode
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.testing import MESSAGE, Way, answers, play

TOKEN = "EAAtoken"
VALUES = {"phone_number_id": "106", "waba_id": "102"}


def make(base_url: str = "https://graph.facebook.com", **values: str) -> CloudProvider:
    secrets = {"token": TOKEN, "app_secret": "app-secret", "verify_token": "verify"}
    settings = Settings("shop", {**VALUES, "base_url": base_url, **values})
    return CloudProvider(settings, secrets, timeout=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"phone_number_id": ""},
        {"phone_number_id": "+1 555"},
        {"waba_id": "x"},
        {"api_version": "25"},
        {"api_version": "v25.0/../.."},
        {"base_url": "http://example.com"},
        {"base_url": "graph.facebook.com"},
        {"endpoint": "../media"},
        {"appsecret_proof": "perhaps"},
        {"colour": "red"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises((UsageError, Refused)) as refusal:
        CloudProvider.validate({**VALUES, **wrong})
    assert refusal.value.hint


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "ü"])
def test_a_token_that_is_none_is_refused_unseen(token: str) -> None:
    with pytest.raises(UsageError) as refusal:
        CloudProvider(Settings("shop", VALUES), {"token": token})
    assert "line" not in refusal.value.message


@pytest.mark.parametrize("said", [False, True])
async def test_a_message_goes_in_its_envelope_encoded_once_or_here(said: bool) -> None:
    body = {"type": "text", "text": {"body": 'a "quote", ü, \n and 👋', "preview_url": False}}
    message = Message("+4915112345670", body, 'a "ref"', encode(body) if said else "")
    async with play(answers(200, b'{"messages": [{"id": "wamid.1"}]}')) as played:
        provider = make(played.base_url)
        await provider.send(message)
        await provider.aclose()
    head, _, sent = played.requests[0].partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(sent) in head.lower() + b"\r\n"
    assert json.loads(sent) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+4915112345670",
        "biz_opaque_callback_data": 'a "ref"',
        **body,
    }


async def test_the_proof_goes_along_when_it_is_wanted() -> None:
    async with play(answers(200, b'{"messages": [{"id": "wamid.1"}]}')) as played:
        provider = make(played.base_url, appsecret_proof="yes", endpoint="marketing_messages")
        await provider.send(MESSAGE)
        await provider.check()
        await provider.aclose()
    first = played.requests[0].split(b"\r\n", 1)[0]
    assert first.startswith(b"POST /v25.0/106/marketing_messages?appsecret_proof=")
    proof = first.split(b"=")[1].split()[0]
    assert len(proof) == 64
    assert all(b"appsecret_proof=" + proof in request for request in played.requests)
    with pytest.raises(UsageError, match="appsecret_proof"):
        CloudProvider(Settings("shop", {**VALUES, "appsecret_proof": "yes"}), {"token": TOKEN})


def test_a_webhook_is_set_up_by_its_own_token_only() -> None:
    provider = make()
    query = {"hub.mode": "subscribe", "hub.challenge": "1158", "hub.verify_token": "verify"}
    assert provider.challenge(query) == "1158"
    for wrong in ({"hub.verify_token": "é"}, {"hub.verify_token": ""}, {"hub.mode": "x"}):
        assert provider.challenge({**query, **wrong}) is None
    bare = CloudProvider(Settings("shop", VALUES), {"token": TOKEN})
    assert bare.challenge({**query, "hub.verify_token": ""}) is None
    assert not bare.verify({"X-Hub-Signature-256": "sha256="}, b"")


def in_turn(*payloads: tuple[int, dict[str, Any]]) -> Way:
    left = list(payloads)

    async def way(reader: Any, writer: Any) -> None:
        status, payload = left.pop(0)
        await answers(status, json.dumps(payload).encode())(reader, writer)

    return way


async def test_a_version_that_knows_fewer_fields_is_asked_for_fewer() -> None:
    unknown = {"error": {"code": 100, "message": "(#100) Tried accessing nonexisting field (x)"}}
    number = {"id": "106", "status": "CONNECTED", "quality_rating": "NA"}
    way = in_turn((400, unknown), (200, number), (200, {"data": []}))
    async with play(way) as played:
        provider = make(played.base_url)
        health = await provider.check()
        await provider.aclose()
    assert health.ok
    assert health.quality == "UNKNOWN"
    assert health.subscribed is False
    assert b"messaging_limit" not in played.requests[1]


async def test_the_entities_decide_not_the_summary_above_them() -> None:
    entities = [{"entity_type": "WABA", "can_send_message": "AVAILABLE"}]
    blocked = {"can_send_message": "BLOCKED", "entities": entities}
    number = {"id": "106", "status": "CONNECTED", "health_status": blocked}
    async with play(in_turn((200, number), (200, {"data": [{}]}))) as played:
        provider = make(played.base_url)
        health = await provider.check()
        await provider.aclose()
    assert (health.ok, health.can_send, health.problems) == (True, "AVAILABLE", ())


async def test_templates_follow_the_cursor_and_never_the_url() -> None:
    page = {"data": [{"name": "a"}], "paging": {"next": "https://evil.example/?access_token=x"}}
    first = {**page, "paging": {**page["paging"], "cursors": {"after": "c&1"}}}  # type: ignore[dict-item]  # a JSON value
    async with play(in_turn((200, first), (200, {"data": [{"name": "b"}, None]}))) as played:
        provider = make(played.base_url)
        assert [item["name"] for item in await provider.templates()] == ["a", "b"]
        await provider.aclose()
    assert b"after=c%261" in played.requests[1]


async def test_templates_that_cannot_be_had_are_refused_with_advice() -> None:
    with pytest.raises(Refused, match="waba_id"):
        await make(waba_id="").templates()
    dead = {"error": {"code": 190, "message": f"Malformed access token {TOKEN}"}}
    async with play(in_turn((401, dead))) as played:
        provider = make(played.base_url)
        with pytest.raises(Refused) as refusal:
            await provider.templates()
        await provider.aclose()
    assert TOKEN not in refusal.value.message
    assert "new token" in refusal.value.hint
