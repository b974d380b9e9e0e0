"""The shortest provider there can be keeps the contract, and says what it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from wabcast.delivery import Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import Refused, UsageError
from wabcast.message import Message
from wabcast.providers.base import Provider, Settings, lacking
from wabcast.providers.plain import PlainProvider
from wabcast.testing import ProviderContract, answers, play


class Shortest(PlainProvider):
    name: ClassVar[str] = "shortest"

    def request(self, message: Message) -> tuple[str, Mapping[str, Any]] | None:
        text = message.body.get("text")
        return ("say", {"to": message.to, "text": text["body"]}) if text else None

    def message_id(self, told: Mapping[str, Any]) -> str | None:
        found: str = told["message"]["id"]
        return found


class Half(PlainProvider):
    name: ClassVar[str] = "half"

    def message_id(self, told: Mapping[str, Any]) -> str | None:
        return str(told)


class TestPlainContract(ProviderContract):
    def make_provider(self, base_url: str, *, timeout: float) -> Provider:
        settings = Settings("test", {"base_url": base_url})
        return Shortest(settings, {"token": self.secret}, timeout=timeout)

    def accepted_answer(self) -> tuple[int, bytes, str]:
        return 202, b'{"message": {"id": "m-1"}}', "m-1"

    def refusals(self) -> Iterable[tuple[int, bytes, type[Verdict]]]:
        yield 200, b'{"message": "queued"}', Lost
        yield 200, b'{"message": {"id": 7}}', Lost
        yield 200, b"[1]", Lost
        for status in (301, 401, 403, 404, 405):
            yield status, b"", Halted
        for status in (400, 409, 422):
            yield status, b"", Rejected
        yield 408, b"", Lost
        yield 429, b"", Deferred


async def verdict(answer: tuple[int, bytes], *headers: str, body: Any = None) -> Verdict:
    async with play(answers(*answer, *headers)) as played:
        provider = TestPlainContract().make_provider(played.base_url, timeout=5)
        said = (
            TestPlainContract().message() if body is None else Message("+4915112345670", body, "r")
        )
        found = await provider.send(said)
        await provider.aclose()
        if body is not None:
            assert played.requests == []
    return found


async def test_what_the_far_side_says_is_told_and_the_wait_it_asks_for_kept() -> None:
    found = await verdict((429, b'{"error": {"message": "slower"}}'), "Retry-After: 7")
    said = "shortest says HTTP 429: slower"
    assert found == Deferred("429", said, timedelta(seconds=7), Scope.ACCOUNT)
    found = await verdict((429, b""), "Retry-After: soon")
    assert isinstance(found, Deferred)
    assert found.after is None
    found = await verdict((422, b'["no such number"]'))
    assert found == Rejected("422", "shortest says HTTP 422: no such number", Scope.MESSAGE)


async def test_what_cannot_be_said_halts_the_campaign_before_anything_leaves() -> None:
    found = await verdict((200, b"{}"), body={"type": "image", "image": {"id": "1"}})
    reason = "shortest cannot send this image message"
    assert found == Halted("unsupported", reason, Scope.CAMPAIGN)


@pytest.mark.parametrize(
    ("status", "ok", "word"),
    [
        (200, True, "CONNECTED"),
        (401, False, "TOKEN"),
        (403, False, "TOKEN"),
        (500, False, "REFUSED"),
    ],
)
async def test_it_is_asked_how_it_is(status: int, ok: bool, word: str) -> None:
    async with play(answers(status, b"")) as played:
        provider = TestPlainContract().make_provider(played.base_url, timeout=5)
        health = await provider.check()
    gone = await provider.check()
    await provider.aclose()
    assert (health.ok, health.status, bool(health.problems)) == (ok, word, not ok)
    assert (gone.ok, gone.status) == (False, "UNREACHABLE")


@pytest.mark.parametrize(
    ("values", "secrets", "told"),
    [
        ({}, {"token": "t"}, "needs base_url"),
        ({"base_url": "http://example.com"}, {"token": "t"}, "plain http"),
        ({"base_url": "https://example.com", "x": "y"}, {"token": "t"}, "no setting 'x'"),
        ({"base_url": "https://example.com"}, {}, "lacks the secret 'token'"),
        ({"base_url": "https://example.com"}, {"token": "t\nu"}, "a character that none has"),
    ],
)
def test_what_cannot_work_is_refused(
    values: dict[str, str], secrets: dict[str, str], told: str
) -> None:
    with pytest.raises((UsageError, Refused), match=told):
        Shortest(Settings("test", values), secrets)


async def test_templates_and_files_are_refused_and_webhooks_not_believed() -> None:
    provider = TestPlainContract().make_provider("http://127.0.0.1:1", timeout=1)
    with pytest.raises(Refused, match="no approved templates"):
        await provider.templates()
    with pytest.raises(Refused, match=r"by link, not a\.png"):
        await provider.upload("a.png", "image/png", b"x")
    assert not provider.verify({"x-signature": "x"}, b"{}")
    assert provider.parse({"id": "m-1"}) == []
    await provider.aclose()


def test_a_class_that_only_says_what_it_must_have_lacks_it() -> None:
    assert lacking(Half) == ["request"]
    assert lacking(Shortest) == []
    assert "send" in lacking(object)
