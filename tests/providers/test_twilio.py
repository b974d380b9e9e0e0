"""Twilio as it is spoken to, and what it tells."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import StillClock
from gateways import KEY, SID, Twilio, served

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope
from wabcast.errors import Refused, UsageError
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.twilio import TwilioProvider, verdict_of
from wabcast.receipts import Inbound, Receipt, Status

NOW = "Thu, 05 Nov 2026 10:00:00 +0000"
"""When the still clock stands."""
URL = "https://shop.example/webhooks/tw?x=1"


def twilio(
    base_url: str = "https://api.twilio.com", token: str = KEY, **values: str
) -> TwilioProvider:
    said = {"base_url": base_url, "account_sid": SID, "from": "+14155238886", **values}
    settings = Settings("tw", {key: value for key, value in said.items() if value})
    return TwilioProvider(settings, {"auth_token": token}, timeout=5, clock=StillClock())


def text(to: str = "+4915112345611", body: str = "Hi") -> Message:
    return Message(to, {"type": "text", "text": {"body": body}}, "wabcast:c:1:1")


async def send(played: Twilio, *messages: Message, **values: str) -> list[Any]:
    provider = twilio(played.base_url, **values)
    try:
        return [await provider.send(message) for message in messages]
    finally:
        await provider.aclose()


async def test_a_text_is_a_form() -> None:
    with served(Twilio()) as played:
        told = await send(played, text(body="Olá & welcome"), status_callback="https://s.test/cb")
    assert told == [Accepted(f"SM{0:032x}")]
    assert played.sent == [
        {
            "To": "whatsapp:+4915112345611",
            "From": "whatsapp:+14155238886",
            "StatusCallback": "https://s.test/cb",
            "Body": "Olá & welcome",
        }
    ]


async def test_a_messaging_service_stands_for_the_sender() -> None:
    with served(Twilio()) as played:
        await send(played, text(), messaging_service_sid="MG1")
    assert played.sent[0]["MessagingServiceSid"] == "MG1"
    assert "From" not in played.sent[0]


async def test_content_goes_by_its_sid_with_its_variables() -> None:
    parameters = [{"type": "text", "text": "Ana"}, {"type": "text", "text": "20 %"}]
    template = {
        "name": "HX0123",
        "language": {"code": "en"},
        "components": [{"type": "body", "parameters": parameters}],
    }
    with served(Twilio()) as played:
        await send(
            played, Message("+4915112345611", {"type": "template", "template": template}, "r")
        )
    assert played.sent[0]["ContentSid"] == "HX0123"
    assert json.loads(played.sent[0]["ContentVariables"]) == {"1": "Ana", "2": "20 %"}
    assert "Body" not in played.sent[0]


async def test_media_go_by_link() -> None:
    plain = {"link": "https://x.test/a.jpg"}
    with served(Twilio()) as played:
        for part in (plain, {**plain, "caption": "See"}):
            await send(played, Message("+4915112345611", {"type": "image", "image": part}, "r"))
    assert [form.get("Body") for form in played.sent] == [None, "See"]
    assert {form["MediaUrl"] for form in played.sent} == {"https://x.test/a.jpg"}


async def test_what_it_cannot_say_halts_the_campaign_before_anything_leaves() -> None:
    with served(Twilio()) as played:
        message = Message("+4915112345611", {"type": "image", "image": {"id": "7"}}, "r")
        (verdict,) = await send(played, message)
    assert isinstance(verdict, Halted)
    assert (verdict.code, verdict.scope) == ("unsupported", Scope.CAMPAIGN)
    assert played.requests == []


@pytest.mark.parametrize(
    ("end", "kind", "scope"),
    [
        ("29", Deferred, Scope.ACCOUNT),
        ("12", Deferred, Scope.MESSAGE),
        ("16", Rejected, Scope.RECIPIENT),
        ("10", Rejected, Scope.RECIPIENT),
        ("17", Rejected, Scope.MESSAGE),
        ("27", Halted, Scope.CAMPAIGN),
        ("03", Halted, Scope.ACCOUNT),
    ],
)
async def test_its_codes_become_verdicts(end: str, kind: type, scope: Scope) -> None:
    with served(Twilio()) as played:
        (verdict,) = await send(played, text(f"+49151123456{end}"))
    assert isinstance(verdict, kind)
    assert getattr(verdict, "scope", None) is scope
    assert getattr(verdict, "opt_out", False) == (end == "10")


async def test_an_answer_that_is_of_no_use_is_made_good_by_asking() -> None:
    with served(Twilio(swallows=True, created=NOW)) as played:
        told = await send(played, text(), text("+4915112345614"))
    assert told == [Accepted(f"SM{0:032x}"), Accepted(f"SM{1:032x}")]
    assert len(played.sent) == 2, "nothing was sent again"


async def test_the_same_words_said_twice_are_two_messages() -> None:
    with served(Twilio(created=NOW)) as played:
        provider = twilio(played.base_url)
        first = await provider.send(text())
        played.swallows = True
        second = await provider.send(text())
        await provider.aclose()
    assert first == Accepted(f"SM{0:032x}")
    assert second == Accepted(f"SM{1:032x}"), "not the one that is known already"


@pytest.mark.parametrize(
    "played",
    [
        Twilio(swallows=True, listed=False, created=NOW),
        Twilio(swallows=True, created="Thu, 05 Nov 2026 09:59:00 +0000"),
        Twilio(swallows=True, created="nonsense"),
    ],
)
async def test_what_asking_does_not_find_is_in_doubt(played: Twilio) -> None:
    with served(played):
        (verdict,) = await send(played, text())
    assert isinstance(verdict, Lost)
    assert len(played.sent) == 1


async def test_an_account_is_asked_how_it_is() -> None:
    with served(Twilio()) as played:
        words = []
        for provider in (twilio(played.base_url), twilio(played.base_url, "wrong-token")):
            health = await provider.check()
            words.append((health.ok, health.status))
            await provider.aclose()
    assert words == [(True, "CONNECTED"), (False, "TOKEN")]


def signed(url: str, form: dict[str, str], token: str = KEY) -> tuple[dict[str, str], bytes]:
    """The documented way: the URL, then each field and its value, sorted by field."""
    text = url + "".join(key + form[key] for key in sorted(form))
    made = base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest())
    return {"X-Twilio-Signature": made.decode()}, urlencode(form).encode()


def test_a_signature_is_over_the_url_and_the_form() -> None:
    form = {"MessageSid": "SM1", "Body": "é & =", "From": "whatsapp:+4915112345611", "To": ""}
    provider = twilio(webhook_url=URL)
    headers, body = signed(URL, form)
    assert provider.verify(headers, body)
    assert provider.verify({"x-twilio-signature": headers["X-Twilio-Signature"]}, body)
    assert not provider.verify(headers, body + b"&x=1")
    assert not provider.verify(*signed(URL, form, "another"))
    assert not provider.verify(*signed("https://evil.example/", form))
    assert not provider.verify({"X-Twilio-Signature": "ü"}, body)
    assert not twilio().verify(headers, body), "without a URL nothing can be compared"
    assert twilio(status_callback=URL).verify(headers, body)
    assert provider.decode(body) == form


def test_a_signature_known_from_twilios_documents() -> None:
    """The example of their page on webhook security, token 12345."""
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    provider = twilio(webhook_url=url, token="12345")
    assert provider.verify(
        {"X-Twilio-Signature": "GvWf1cFY/Q7PnoempGyD5oXAezc="}, urlencode(form).encode()
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("sent", Status.SENT),
        ("delivered", Status.DELIVERED),
        ("read", Status.READ),
        ("undelivered", Status.FAILED),
        ("failed", Status.FAILED),
    ],
)
def test_a_status_is_a_receipt(word: str, status: Status) -> None:
    form = {"MessageSid": "SM1", "MessageStatus": word, "To": "whatsapp:+4915112345611"}
    (news,) = twilio().parse({**form, "ErrorCode": "63024"} if status is Status.FAILED else form)
    assert isinstance(news, Receipt)
    assert (news.message_id, news.status) == ("SM1", status)
    assert news.person.phone == "+4915112345611"
    if status is Status.FAILED:
        assert isinstance(news.error, Rejected)
        assert news.error.code == "63024"


@pytest.mark.parametrize("word", ["queued", "sending", "accepted", "scheduled", "whatever"])
def test_what_is_on_its_way_is_no_news(word: str) -> None:
    assert twilio().parse({"MessageSid": "SM1", "MessageStatus": word}) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("21610", Rejected),
        ("63018", Deferred),
        ("63007", Halted),
        ("99999", Rejected),
        ("", Rejected),
    ],
)
def test_a_failure_told_later_is_never_in_doubt(code: str, kind: type) -> None:
    form = {"MessageSid": "SM1", "MessageStatus": "failed", "ErrorCode": code}
    (news,) = twilio().parse(form)
    assert isinstance(news, Receipt)
    assert isinstance(news.error, kind)
    assert getattr(news.error, "opt_out", False) == (code == "21610")


@pytest.mark.parametrize("status", [{}, {"SmsStatus": "received"}, {"MessageStatus": "received"}])
def test_an_inbound_message(status: dict[str, str]) -> None:
    form = {"MessageSid": "SM2", "From": "whatsapp:+4915112345611", "Body": "STOP", "NumMedia": "0"}
    (news,) = twilio().parse(form | status)
    assert isinstance(news, Inbound)
    assert (news.message_id, news.text, news.kind) == ("SM2", "STOP", "text")
    assert news.person.phone == "+4915112345611"


def test_a_tap_and_a_sender_who_hides_the_number() -> None:
    form = {
        "MessageSid": "SM3",
        "From": "whatsapp:US.1234",
        "ExternalUserId": "whatsapp:US.1234",
        "Body": "Yes",
        "ButtonText": "Yes please",
        "ButtonPayload": "yes",
        "OriginalRepliedMessageSid": "SM1",
    }
    (news,) = twilio().parse(form)
    assert isinstance(news, Inbound)
    assert (news.person.phone, news.person.bsuid) == (None, "US.1234")
    assert (news.kind, news.text, news.payload) == ("button", "Yes please", "yes")
    assert news.context_id == "SM1"


@pytest.mark.parametrize(
    "values",
    [
        {"account_sid": ""},
        {"account_sid": "../../x"},
        {"from": ""},
        {"from": "shop"},
        {"colour": "red"},
        {"webhook_url": "shop.example"},
        {"base_url": "nonsense"},
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, str]) -> None:
    said = {"account_sid": SID, "from": "whatsapp:+14155238886"}
    TwilioProvider.validate(said)
    with pytest.raises(UsageError):
        TwilioProvider.validate(said | values)


async def test_templates_and_uploads_are_refused() -> None:
    provider = twilio()
    with pytest.raises(Refused, match="SID"):
        await provider.templates()
    with pytest.raises(Refused, match="by link"):
        await provider.upload("a.jpg", "image/jpeg", b"")
    await provider.aclose()


def test_every_code_of_the_table_has_its_class() -> None:
    """PROVIDERS 7, letter by letter."""
    throttled = (20429, 63018, 63017, 14107, 30001)
    people = (63003, 63024, 63032, 63016, 21211, 21614)
    stopped = (21610, 63033, 63014)
    wrong = (63005, 63021, 63028, 63030, 21655, 21656, 21617, 63019)
    campaign = (63027, 63041, 63040)
    account = (20003, 63001, 63002, 63007, 63008, 63013, 63020, 63022, 63026, 63038)
    transient = (63009, 63010, 63012, 30008)
    for code in throttled:
        assert verdict_of(code, "x") == Deferred(str(code), "x", None, Scope.ACCOUNT)
    for code in people:
        assert verdict_of(code, "x") == Rejected(str(code), "x")
    for code in stopped:
        assert verdict_of(code, "x") == Rejected(str(code), "x", opt_out=True)
    for code in wrong:
        assert verdict_of(code, "x") == Rejected(str(code), "x", Scope.MESSAGE)
    for code in campaign:
        assert verdict_of(code, "x") == Halted(str(code), "x", Scope.CAMPAIGN)
    for code in account:
        assert verdict_of(code, "x") == Halted(str(code), "x", Scope.ACCOUNT)
    for code in transient:
        assert verdict_of(code, "x", 503) == Deferred(str(code), "x")
    assert {str(code) for code in (*throttled, *transient)} <= TwilioProvider.transient_codes
