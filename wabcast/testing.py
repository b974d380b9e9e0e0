"""The public test kit: what every provider must keep, as a class of pytest tests.

    class TestMine(ProviderContract):
        def make_provider(self, base_url, *, timeout):
            return MyProvider(Settings("test", {"base_url": base_url}), {"token": TOKEN})

        def accepted_answer(self): return 200, b'{"id": "abc"}'

Each test plays a server on a real socket that answers in one way. It needs pytest and
pytest-asyncio, in any mode. What a reader must not break: the tests ask for nothing but the
interface in `providers/base.py`.
"""

# ruff: noqa: S101  # asserts are what a test kit is

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from wabcast.delivery import Accepted, Deferred, Lost, Verdict
from wabcast.message import Message
from wabcast.providers.base import Provider, missing

Way = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What the played server does on a connection once it has read a request."""

MESSAGE = Message("+4915112345670", {"type": "text", "text": {"body": "Hi"}}, "wabcast:c:1:1")


@dataclass
class Played:
    """A server that reads each request and then does one thing. `requests` is what came."""

    way: Way
    base_url: str = ""
    requests: list[bytes] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await read_request(reader):
                self.requests.append(request)
                await self.way(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the far side gave up, or the test is over
        finally:
            writer.close()


@asynccontextmanager
async def play(way: Way) -> AsyncIterator[Played]:
    """A server on loopback for as long as the block lasts."""
    played = Played(way)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(played._serve(reader, writer))  # its own
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    played.base_url = f"http://{host}:{port}"
    try:
        yield played
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.wait(tasks) if tasks else None
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One HTTP/1.1 request with its body; empty when the far side has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        return head + await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return b""


def answers(status: int, body: bytes, *headers: str, kind: str = "application/json") -> Way:
    """Answer every request so."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    whole = "\r\n".join([*lines, *headers, "", ""]).encode() + body

    async def way(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(whole)
        await writer.drain()

    return way


async def cuts(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection after the request, without a byte of an answer."""
    writer.transport.abort()


async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close the connection after the request, without a byte of an answer."""
    writer.close()


async def halves(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close in the middle of the answer."""
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"messages":')
    await writer.drain()
    writer.close()


async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Never answer; wait until the far side gives up."""
    await reader.read()


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the headers, then a byte now and then, without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


class ProviderContract(ABC):
    """The promises of a provider. Subclass it as `TestSomething` and give it a provider."""

    pytestmark = pytest.mark.asyncio
    secret = "s3cret-of-the-contract"  # noqa: S105  # the token that must never be seen

    @abstractmethod
    def make_provider(self, base_url: str, *, timeout: float) -> Provider:
        """A provider that talks to `base_url`, gives up after `timeout` seconds, and has
        `self.secret` for a token."""

    @abstractmethod
    def accepted_answer(self) -> tuple[int, bytes, str]:
        """Status, body and message id of an answer that takes a message."""

    def message(self) -> Message:
        return MESSAGE

    def is_send(self, request: bytes) -> bool:
        """Whether a request (its bytes) is one that sends; for who also asks before or after."""
        return bool(request)

    def refusals(self) -> Iterable[tuple[int, bytes, type[Verdict]]]:
        """More answers, each with the verdict it means: the provider's own ways of saying no."""
        return ()

    async def send(self, way: Way) -> tuple[Verdict, int]:
        """The verdict on one message to a server that behaves so; how many requests came."""
        async with play(way) as played:
            provider = self.make_provider(played.base_url, timeout=0.5)
            try:
                verdict = await provider.send(self.message())
                return verdict, sum(map(self.is_send, played.requests))
            finally:
                await provider.aclose()

    async def test_its_own_refusals_mean_what_it_says(self) -> None:
        for status, body, kind in self.refusals():
            verdict, requests = await self.send(answers(status, body))
            assert isinstance(verdict, kind), (status, body, verdict)
            assert requests == 1

    async def test_a_message_that_is_taken_has_an_id(self) -> None:
        status, body, message_id = self.accepted_answer()
        verdict, requests = await self.send(answers(status, body))
        assert verdict == Accepted(message_id)
        assert requests == 1

    async def test_a_connection_that_is_refused_is_deferred(self) -> None:
        async with play(cuts) as played:
            pass
        provider = self.make_provider(played.base_url, timeout=5)
        assert isinstance(await provider.send(self.message()), Deferred)
        await provider.aclose()

    async def test_what_is_cut_after_the_request_is_in_doubt_and_not_repeated(self) -> None:
        for way in (cuts, closes, halves):
            verdict, requests = await self.send(way)
            assert isinstance(verdict, Lost), way.__doc__
            assert requests == 1, way.__doc__

    async def test_a_reused_connection_that_is_cut_is_in_doubt_and_not_repeated(self) -> None:
        status, body, _ = self.accepted_answer()
        polite = answers(status, body)

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Its questions, if it has any, are cut too: only a send decides.
            sends = sum(map(self.is_send, played.requests))
            await (polite if sends == 1 else cuts)(reader, writer)

        async with play(once) as played:
            provider = self.make_provider(played.base_url, timeout=5)
            assert isinstance(await provider.send(self.message()), Accepted)
            assert isinstance(await provider.send(self.message()), Lost)
            assert sum(map(self.is_send, played.requests)) == 2
            await provider.aclose()

    async def test_what_cannot_be_read_is_in_doubt(self) -> None:
        for way in (
            answers(200, b"\x00\xff{not json"),
            answers(200, b""),
            answers(200, b"{}"),
            answers(200, b"[" * 100_000),
            answers(500, b"<html>Server Error</html>", kind="text/html"),
            answers(502, b"Bad Gateway", kind="text/plain"),
            answers(200, b" " * 1_200_000),
        ):
            verdict, requests = await self.send(way)
            assert isinstance(verdict, Lost)
            assert requests == 1

    async def test_every_request_is_bounded_as_a_whole(self) -> None:
        for way in (says_nothing, drips):
            async with asyncio.timeout(10):
                verdict, _ = await self.send(way)
            assert isinstance(verdict, Lost), way.__doc__

    async def test_a_redirect_is_not_followed(self) -> None:
        async with play(answers(200, b"{}")) as elsewhere:
            location = f"Location: {elsewhere.base_url}/"
            verdict, requests = await self.send(answers(307, b"", location))
        assert not isinstance(verdict, Accepted)
        assert requests == 1
        assert not elsewhere.requests

    async def test_the_token_is_never_told(self) -> None:
        echo = f'{{"error": {{"code": 190, "message": "Malformed token {self.secret}"}}}}'.encode()
        for way in (cuts, answers(401, echo), answers(500, echo), answers(418, echo)):
            verdict, _ = await self.send(way)
            assert self.secret not in repr(verdict)
        provider = self.make_provider("http://127.0.0.1:1", timeout=5)
        assert self.secret not in repr(provider)
        assert self.secret not in repr(await provider.check())
        await provider.aclose()

    async def test_webhooks_of_any_shape_are_survived(self) -> None:
        provider = self.make_provider("http://127.0.0.1:1", timeout=5)
        payloads: tuple[dict[str, Any], ...] = (
            {},
            {"entry": None},
            {"entry": [None, 3, {"changes": [None, {}]}]},
        )
        for payload in payloads:
            assert provider.parse(payload) == []
        assert provider.verify({}, b"{}") is False
        assert provider.challenge({}) is None
        await provider.aclose()

    async def test_it_says_what_it_needs(self) -> None:
        provider = self.make_provider("http://127.0.0.1:1", timeout=5)
        kind = type(provider)
        assert isinstance(provider, Provider)
        assert kind.name
        assert missing(kind.needed_settings, {}) == list(kind.needed_settings)
        await provider.aclose()
