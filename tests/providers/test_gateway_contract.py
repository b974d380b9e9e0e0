"""WAHA, Evolution and Twilio keep the contract of all providers."""

from __future__ import annotations

import json
from collections.abc import Iterable

from conftest import StillClock

from wabcast.delivery import Deferred, Halted, Lost, Rejected, Verdict
from wabcast.message import Message
from wabcast.providers.base import Provider, Settings
from wabcast.providers.evolution import EvolutionProvider
from wabcast.providers.twilio import TwilioProvider
from wabcast.providers.waha import WahaProvider
from wabcast.testing import ProviderContract, answers, play

SID = "AC0123456789abcdef0123456789abcdef"


def told(body: object) -> bytes:
    return json.dumps(body).encode()


class TestWahaContract(ProviderContract):
    def make_provider(self, base_url: str, *, timeout: float) -> Provider:
        secrets = {"api_key": self.secret, "webhook_secret": "w-secret"}
        return WahaProvider(Settings("test", {"base_url": base_url}), secrets, timeout=timeout)

    def accepted_answer(self) -> tuple[int, bytes, str]:
        return 201, told({"id": "true_4915112345670@c.us_3EB0AB"}), "3EB0AB"

    def refusals(self) -> Iterable[tuple[int, bytes, type[Verdict]]]:
        yield 500, told({"exception": {"message": "server returned error 463"}}), Halted
        yield 500, told({"exception": {"message": "reach-out timelock"}}), Halted
        yield 500, told({"exception": {"message": "x", "stack": "at a.js:463:1"}}), Lost
        yield 500, told({"message": "x", "request": {"body": {"text": "463 eggs"}}}), Lost
        yield 422, told({"error": "x", "status": "FAILED", "expected": ["WORKING"]}), Halted
        yield 404, told({"message": "Session not found"}), Halted
        yield 400, told({"message": ["text must be a string"]}), Rejected
        yield 429, b"", Deferred
        yield 201, b"", Lost


class TestEvolutionContract(ProviderContract):
    def make_provider(self, base_url: str, *, timeout: float) -> Provider:
        values = {"base_url": base_url, "instance": "shop"}
        secrets = {"api_key": self.secret}
        return EvolutionProvider(Settings("test", values), secrets, timeout=timeout)

    def accepted_answer(self) -> tuple[int, bytes, str]:
        return 201, told({"key": {"id": "3EB0AB"}, "status": "PENDING"}), "3EB0AB"

    def refusals(self) -> Iterable[tuple[int, bytes, type[Verdict]]]:
        nobody = {"exists": False, "jid": "4915@s.whatsapp.net", "number": "4915"}
        yield 400, told({"status": 400, "response": {"message": [nobody]}}), Rejected
        yield 400, told({"response": {"message": ["Error: 463"]}}), Halted
        yield 401, told({"status": 401, "error": "Unauthorized"}), Halted
        yield 404, told({"response": {"message": ['The "x" instance does not exist']}}), Halted
        yield 500, told({"response": {"message": "Connection Closed"}}), Lost
        yield 201, told({"key": {}}), Lost


class TestTwilioContract(ProviderContract):
    def make_provider(self, base_url: str, *, timeout: float) -> Provider:
        values = {"base_url": base_url, "account_sid": SID, "from": "+14155238886"}
        secrets = {"auth_token": self.secret}
        settings = Settings("test", values)
        return TwilioProvider(settings, secrets, timeout=timeout, clock=StillClock())

    def accepted_answer(self) -> tuple[int, bytes, str]:
        return 201, told({"sid": "SM1", "status": "queued", "error_code": None}), "SM1"

    def is_send(self, request: bytes) -> bool:
        """It asks what became of a message whose answer did not come."""
        return request.startswith(b"POST ")

    def refusals(self) -> Iterable[tuple[int, bytes, type[Verdict]]]:
        for status, code, kind in (
            (429, 20429, Deferred),
            (400, 63018, Deferred),
            (503, 63012, Deferred),
            (400, 63016, Rejected),
            (400, 21610, Rejected),
            (400, 21617, Rejected),
            (400, 63027, Halted),
            (401, 20003, Halted),
            (404, 20404, Halted),
            (400, 99999, Rejected),
            (500, 20500, Lost),
        ):
            yield status, told({"code": code, "message": "no", "status": status}), kind


async def test_a_timelock_is_told_in_words_whoever_says_it() -> None:
    body = told({"exception": {"message": "2 UNKNOWN: server returned error 463"}})
    async with play(answers(500, body)) as played:
        provider = TestWahaContract().make_provider(played.base_url, timeout=5)
        verdict = await provider.send(Message("+4915112345670", {"type": "text"}, "r"))
        assert isinstance(verdict, Halted)
        assert verdict.code == "unsupported", "a text without a body cannot be said"
        verdict = await provider.send(TestWahaContract().message())
        await provider.aclose()
    assert isinstance(verdict, Halted)
    assert (verdict.code, str(verdict.scope)) == ("463", "account")
    assert "no new chats" in verdict.reason


async def test_an_error_as_deep_as_it_likes_is_survived() -> None:
    deep = b'{"message":' * 400 + b"1" + b"}" * 400
    async with play(answers(400, deep)) as played:
        provider = TestWahaContract().make_provider(played.base_url, timeout=5)
        assert isinstance(await provider.send(TestWahaContract().message()), Rejected)
        await provider.aclose()
