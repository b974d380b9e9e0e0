"""The sandbox in the process: strict, deterministic, and telling what became of everybody."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from wabcast.clock import Clock
from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Verdict
from wabcast.errors import Refused, UsageError
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.sandbox import SandboxProvider
from wabcast.providers.sandbox_app import Sandbox
from wabcast.providers.sandbox_fates import CARDS, table
from wabcast.providers.sandbox_knobs import Knobs
from wabcast.receipts import Inbound, News, Preference, Receipt, Wish

TEXT = {"type": "text", "text": {"body": "Hi"}}


@pytest.fixture
async def provider() -> AsyncIterator[SandboxProvider]:
    sandbox = Sandbox(Knobs(token="sandbox"), Clock(seed=1))
    provider = SandboxProvider(Settings("play"), timeout=0.1, sandbox=sandbox)
    yield provider
    await provider.aclose()


async def news_of(provider: SandboxProvider) -> list[News]:
    """What the webhooks say, once everything owed was told."""
    news: list[News] = []

    async def hear(body: bytes, headers: dict[str, str]) -> int:
        assert provider.verify(headers, body)
        assert not provider.verify(headers, body + b" ")
        news.extend(provider.parse(json.loads(body)))
        return 200

    provider.on_webhook = hear
    await provider.drain()
    return news


async def send(provider: SandboxProvider, ending: str, body: Any = None, n: int = 1) -> Verdict:
    return await provider.send(Message(f"+491511234{ending}", body or TEXT, f"wabcast:c:{n}:1"))


FATES: list[tuple[str, list[type[Verdict]], str | None]] = [
    ("0001", [Accepted], None),
    ("0007", [Rejected], "130403"),
    ("0016", [Lost], None),
    ("0026", [Accepted], None),
    ("1026", [Rejected], "131026"),
    ("0045", [Halted], "131045"),
    ("0050", [Accepted], None),
    ("1050", [Rejected], "131050"),
    ("0056", [Deferred, Accepted, Accepted], "131056"),
    ("0132", [Halted], "132015"),
    ("0190", [Halted, Halted], "190"),
    ("0200", [Lost], None),
    ("1200", [Lost], None),
    ("0302", [Halted], "redirect"),
    ("0408", [Lost], None),
    ("0429", [Deferred, Accepted], "130429"),
    ("1429", [Deferred, Accepted], "613"),
    ("0444", [Lost], None),
    ("1444", [Lost], None),
    ("0500", [Lost], None),
    ("0503", [Deferred, Accepted], "131016"),
    ("0999", [Rejected], "999999"),
    ("1999", [Lost], "999999"),
]


@pytest.mark.parametrize(("ending", "kinds", "code"), FATES)
async def test_a_card_has_its_fate(
    provider: SandboxProvider, ending: str, kinds: list[type[Verdict]], code: str | None
) -> None:
    verdicts = [await send(provider, ending, n=n) for n in range(len(kinds))]
    assert [type(verdict) for verdict in verdicts] == kinds
    first = verdicts[0]
    if code is not None and not isinstance(first, Accepted):
        assert first.code == code
    assert provider.sandbox.outcomes.total() == len(kinds)


@pytest.mark.parametrize(
    ("ending", "wanted"),
    [
        ("0001", ["sent", "delivered", "read"]),
        ("0006", ["sent", "delivered"]),
        ("0009", ["sent"]),
        ("0026", ["failed"]),
        ("1207", ["failed"]),
        ("1444", ["sent", "delivered", "read"]),
        ("0444", []),
    ],
)
async def test_receipts_tell_what_became(
    provider: SandboxProvider, ending: str, wanted: list[str]
) -> None:
    verdict = await send(provider, ending, n=7)
    news = await news_of(provider)
    receipts = [item for item in news if isinstance(item, Receipt)]
    assert [item.status.value for item in receipts] == wanted
    for item in receipts:
        assert item.ref is not None
        assert item.ref.message_id == 7
        assert not isinstance(verdict, Accepted) or item.message_id == verdict.message_id
        assert (item.error is not None) is (item.status == "failed")


async def test_people_answer_stop_and_tap(provider: SandboxProvider) -> None:
    ids = [await send(provider, ending) for ending in ("0002", "0003", "0004", "0005")]
    news = await news_of(provider)
    said = [(item.text, item.context_id) for item in news if isinstance(item, Inbound)]
    assert [text for text, _ in sorted(said)] == ["STOP", "Thanks", "Unsubscribe"]
    assert {context for _, context in said} <= {
        x.message_id for x in ids if isinstance(x, Accepted)
    }
    (wish,) = [item for item in news if isinstance(item, Preference)]
    assert (wish.wish, wish.person.phone) == (Wish.STOP, "+4915112340005")


async def test_a_webhook_that_is_not_taken_comes_again(provider: SandboxProvider) -> None:
    answers, bodies = [500, 599, 200], []

    async def hear(body: bytes, _: dict[str, str]) -> int:
        bodies.append(body)
        return answers.pop(0)

    async def at_once(_: float) -> None: ...

    provider.sandbox.clock.sleep = at_once  # type: ignore[assignment, method-assign]  # nobody waits
    await send(provider, "0009")
    provider.on_webhook = hear
    await provider.drain()
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert provider.sandbox.stats()["receipts"] == {"told": 1, "owed": 0, "lost": 0}


def template(name: str, *components: Any, language: str = "en_US") -> dict[str, Any]:
    part: dict[str, Any] = {"name": name, "language": {"code": language}}
    return {
        "type": "template",
        "template": part | ({"components": components} if components else {}),
    }


def body_of(*texts: str, **named: str) -> dict[str, Any]:
    given = [{"type": "text", "text": text} for text in texts]
    given += [{"type": "text", "parameter_name": key, "text": t} for key, t in named.items()]
    return {"type": "body", "parameters": given}


def button(kind: str, index: int, **parameter: str) -> dict[str, Any]:
    return {"type": "button", "sub_type": kind, "index": str(index), "parameters": [parameter]}


DISCOUNT = {"first_name": "Ana", "discount_amount": "5%", "discount_code": "X"}
TITLE = {"type": "header", "parameters": [{"type": "text", "text": "17"}]}
IMAGE = {
    "type": "header",
    "parameters": [{"type": "image", "image": {"link": "https://x.example/i"}}],
}
TRACK = button("url", 0, type="text", text="17")
COUPON = button("COPY_CODE", 0, type="coupon_code", coupon_code="X")
REPLY = {"type": "button", "body": {"text": "Well?"}}


PLACE = {"latitude": "52.5", "longitude": "13.4"}
BILL = {
    "type": "body",
    "parameters": [
        {"type": "text", "text": "Ana"},
        {
            "type": "currency",
            "currency": {"fallback_value": "9 EUR", "code": "EUR", "amount_1000": 9000},
        },
        {"type": "date_time", "date_time": {"fallback_value": "5 November"}},
    ],
}


def header(kind: str, **content: str) -> dict[str, Any]:
    return {"type": "header", "parameters": [{"type": kind, kind: content}]}


def cards(*indexes: int, track: bool = True) -> dict[str, Any]:
    parts = [IMAGE, body_of("5%"), *([TRACK] if track else [])]
    made = [{"card_index": index, "components": parts} for index in indexes]
    return {"type": "carousel", "cards": made}


def replies(*titles: str, **more: Any) -> dict[str, Any]:
    buttons = [{"type": "reply", "reply": {"id": title, "title": title}} for title in titles]
    said = {**REPLY, "action": {"buttons": buttons}, **more}
    return {"type": "interactive", "interactive": said}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (TEXT, None),
        ({"type": "text", "text": {"body": "x" * 4097}}, "100"),
        ({"type": "text", "text": {"body": " "}}, "131008"),
        ({"type": "text"}, "131008"),
        ({"type": "poll", "poll": {}}, "131051"),
        ({**TEXT, "extra": 1}, "100"),
        ({**TEXT, "messaging_product": "sms"}, "100"),
        ({**TEXT, "to": "12"}, "131009"),
        ({**TEXT, "to": 491511234}, "131008"),
        (template("hello_world"), None),
        (template("hello_world", body_of("x")), "132000"),
        (template("greeting", body_of("Ana", "Acme")), None),
        (template("greeting", body_of("Ana", "Acme"), language="de"), None),
        (template("greeting", body_of("Ana", "Acme"), language="fr"), "132001"),
        (template("greeting", body_of("Ana")), "132000"),
        (template("greeting"), "132000"),
        (template("greeting", body_of("Ana", "a\nb")), "132018"),
        (template("greeting", body_of("Ana", "a     b")), "132018"),
        (template("greeting", body_of("Ana", "")), "131008"),
        (template("welcome_discount", body_of(**DISCOUNT)), None),
        (template("welcome_discount", body_of("Ana", "5%", "X")), "132012"),
        (template("spring_offer", IMAGE, body_of("Ana")), None),
        (template("spring_offer", body_of("Ana")), "132012"),
        (template("parcel", TITLE, body_of("Ana", "today"), TRACK), None),
        (template("parcel", TITLE, body_of("Ana", "today")), "131008"),
        (template("coupon", body_of("Ana"), COUPON), None),
        (template("invoice", header("document", id="1"), body_of("Ana", "9", "x")), "131009"),
        (template("invoice", header("document", link="https://x/d"), BILL), None),
        (template("invoice", header("image", link="https://x/d"), BILL), "132012"),
        (template("clip", header("video", link="https://x/v"), body_of("Ana")), None),
        (template("visit", header("location", **PLACE), body_of("Ana")), None),
        (template("visit", header("location", latitude="91"), body_of("Ana")), "131009"),
        (template("flowers", body_of("Ana"), cards(0, 1)), None),
        (template("flowers", body_of("Ana")), "132012"),
        (template("flowers", body_of("Ana"), cards(0)), "132012"),
        (template("flowers", body_of("Ana"), cards(1, 0)), "131009"),
        (template("flowers", body_of("Ana"), cards(0, 1, track=False)), "131008"),
        (template("paused_offer", body_of("Ana")), "132015"),
        (template("rejected_offer", body_of("Ana")), "132001"),
        (template("disabled_offer", body_of("Ana")), "132016"),
        (template("nothing"), "132001"),
        ({"type": "image", "image": {"id": "5"}}, "131009"),
        ({"type": "image", "image": {"link": "https://x.example/i.png", "caption": "x"}}, None),
        ({"type": "audio", "audio": {"link": "https://x.example/a", "caption": "x"}}, "100"),
        (replies("Yes", "No"), None),
        (replies("a", "b", "c", "d"), "131009"),
        (replies("x" * 21), "100"),
        (replies("a", "a"), "131009"),
        (replies("a", header={"type": "image", "image": {"link": "https://x/i"}}), None),
        (replies("a", header={"type": "image", "image": {}}), "131009"),
        (replies("a", header={"type": "text", "text": "x" * 61}), "100"),
        (replies("a", header={"type": "poll"}), "131009"),
        ({"type": "location", "location": {**PLACE}}, None),
        ({"type": "location", "location": {"latitude": 1}}, "131009"),
    ],
)
async def test_what_meta_refuses_is_refused(
    provider: SandboxProvider, body: dict[str, Any], code: str | None
) -> None:
    verdict = await send(provider, "0001", body)
    if code is None:
        assert isinstance(verdict, Accepted)
    else:
        assert isinstance(verdict, Rejected | Halted)
        assert verdict.code == code


async def test_a_ref_of_more_than_512_characters_is_refused(provider: SandboxProvider) -> None:
    verdict = await provider.send(Message("+4915112340001", TEXT, "x" * 513))
    assert isinstance(verdict, Rejected)


async def test_a_medium_is_sent_by_its_id(provider: SandboxProvider) -> None:
    media_id = await provider.upload('ünï "x".png', "image/png", b"\x89PNG\r\n--\r\n\x00")
    image = {"type": "image", "image": {"id": media_id}}
    assert isinstance(await send(provider, "0001", image), Accepted)
    for mime, content in (("image/png", b""), ("image/png", b"x" * 5_300_000), ("font/woff", b"x")):
        with pytest.raises(Refused, match="does not take"):
            await provider.upload("x", mime, content)


async def test_templates_come_page_by_page(provider: SandboxProvider) -> None:
    names = [(item["name"], item["language"]) for item in await provider.templates()]
    assert len(names) == len(set(names)) == 14
    assert ("greeting", "de") in names


async def test_the_number_is_healthy(provider: SandboxProvider) -> None:
    health = await provider.check()
    assert health.ok
    assert health.subscribed is True
    assert health.problems == ()


@pytest.mark.parametrize(
    ("knob", "value", "ok", "status", "words"),
    [
        ("token_dead", True, False, "TOKEN", "token"),
        ("phone_number_id", "999", False, "UNKNOWN_NUMBER", "phone-number-id"),
        ("status", "DISCONNECTED", False, "DISCONNECTED", "Register the number again"),
        ("can_send", "BLOCKED", False, "CONNECTED", "payment method"),
        ("can_send", "LIMITED", True, "CONNECTED", "limits sending"),
        ("subscribed", False, True, "CONNECTED", "subscribed"),
        ("quality", "RED", True, "CONNECTED", "RED"),
    ],
)
async def test_what_is_wrong_is_told_apart(
    provider: SandboxProvider, knob: str, value: Any, ok: bool, status: str, words: str
) -> None:
    setattr(provider.sandbox.knobs, knob, value)
    health = await provider.check()
    assert (health.ok, health.status) == (ok, status)
    assert len(health.problems) == 1
    assert words in health.problems[0]
    assert "Malformed access token sandbox" not in health.problems[0]


async def test_above_its_rate_it_throttles(provider: SandboxProvider) -> None:
    provider.sandbox.knobs.rate = 3
    kinds = [type(await send(provider, "0001", n=n)) for n in range(5)]
    assert kinds == [Accepted] * 3 + [Deferred] * 2


async def test_faults_strike_by_the_seed() -> None:
    async def run() -> list[type[Verdict]]:
        sandbox = Sandbox(Knobs(faults={"cut": 0.3, "unavailable": 0.3}), Clock(seed=7))
        provider = SandboxProvider(Settings("play"), sandbox=sandbox)
        kinds = [type(await send(provider, "0001", n=n)) for n in range(30)]
        await provider.aclose()
        return kinds

    kinds = await run()
    assert {Accepted, Deferred, Lost} == set(kinds)
    assert kinds == await run()


async def test_the_log_knows_every_send_and_stays_bounded() -> None:
    sandbox = Sandbox(Knobs(log_limit=3), Clock(seed=1))
    provider = SandboxProvider(Settings("play"), sandbox=sandbox)
    for n in range(5):
        await send(provider, "0001", n=n)
    assert [seen.ref for seen in sandbox.log] == [f"wabcast:c:{n}:1" for n in (2, 3, 4)]
    assert json.loads(sandbox.log[0].line())["body"]["text"] == {"body": "Hi"}
    assert sandbox.stats()["sends"] == 5
    await provider.aclose()


def test_settings_are_looked_at_before_they_are_stored() -> None:
    SandboxProvider.validate({"latency": "5ms", "seed": "7"})
    for wrong in ({"latency": "soon"}, {"seed": "x"}, {"color": "red"}):
        with pytest.raises(UsageError):
            SandboxProvider.validate(wrong)


def test_the_table_names_every_card() -> None:
    assert all(f"…{digits}  {fate.story}" in table() for digits, fate in CARDS.items())
