"""The sandbox on a real socket, as `sandbox serve` runs it: another process, real HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from wabcast.delivery import Accepted, Deferred, Halted, Lost
from wabcast.errors import Refused
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.providers.http import Http
from wabcast.providers.sandbox_app import Sandbox
from wabcast.providers.sandbox_knobs import PHONE_NUMBER_ID, WABA_ID, Knobs
from wabcast.providers.sandbox_serve import listen, serve
from wabcast.testing import play

SERVE = (
    "import sys; from typer.main import get_command; from wabcast.cli.sandbox import app;"
    "get_command(app)(['serve', *sys.argv[1:]])"
)


def cloud(base_url: str, *, timeout: float = 10) -> CloudProvider:
    values = {"base_url": base_url, "phone_number_id": PHONE_NUMBER_ID, "waba_id": WABA_ID}
    secrets = {"token": "t0ken", "app_secret": "sandbox"}
    return CloudProvider(Settings("test", values), secrets, timeout=timeout, concurrency=20)


def message(number: str, n: int = 1) -> Message:
    return Message(number, {"type": "text", "text": {"body": f"Hi {n}"}}, f"wabcast:c:{n}:1")


@asynccontextmanager
async def served(sandbox: Sandbox, webhook: str | None = None) -> AsyncIterator[str]:
    stop, where = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(sandbox, webhook=webhook, ready=where.set_result, stop=stop))
        try:
            yield await where
        finally:
            stop.set()


async def test_300_people_get_one_message_each() -> None:
    sandbox = Sandbox(Knobs(receipt_scale=0))
    async with served(sandbox) as base_url:
        provider = cloud(base_url)
        messages = [message(f"+4915110{n:05d}1", n) for n in range(300)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(provider.send(one)) for one in messages]
        assert all(isinstance(task.result(), Accepted) for task in tasks)
        assert len({task.result() for task in tasks}) == 300
        assert (await provider.check()).ok
        await provider.aclose()
        control = Http(base_url, {})
        log = [json.loads(line) for line in (await control.get("_sandbox/log")).body.splitlines()]
        await control.aclose()
    assert sorted(line["ref"] for line in log) == sorted(one.ref for one in messages)
    texts = {line["ref"]: line["body"]["text"]["body"] for line in log}
    assert texts == {one.ref: one.body["text"]["body"] for one in messages}


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        ("+4915112340444", Lost, "cut"),
        ("+4915112340500", Lost, "500"),
        ("+4915112340408", Lost, "within"),
        ("+4915112340016", Lost, "within"),
        ("+4915112340302", Halted, "redirect"),
        ("+4915112341429", Deferred, "calls"),
    ],
)
async def test_the_fates_that_need_a_socket(number: str, kind: type, words: str) -> None:
    async with served(Sandbox(Knobs())) as base_url:
        provider = cloud(base_url, timeout=0.3)
        verdict = await provider.send(message(number))
        await provider.aclose()
    assert isinstance(verdict, kind)
    assert not isinstance(verdict, Accepted)
    assert words in verdict.reason


async def test_the_knobs_turn_while_it_runs() -> None:
    async with served(Sandbox(Knobs())) as base_url:
        provider, control = cloud(base_url), Http(base_url, {})

        async def turn(**knobs: object) -> int:
            body = json.dumps(knobs).encode()
            return (await control.post("_sandbox/knobs", body, "application/json")).status

        for knob, kind in (("token_dead", Halted), ("throttled", Deferred), ("down", Lost)):
            assert await turn(**{knob: True}) == 200
            assert isinstance(await provider.send(message("+4915112340001")), kind)
            assert await turn(**{knob: False}) == 200
        assert isinstance(await provider.send(message("+4915112340001")), Accepted)
        assert await turn(app_secret="x") == await turn(latency="soon") == 400
        assert await turn(faults={"typhoon": 1}) == 400
        await control.aclose()
        await provider.aclose()


async def test_a_tick_is_taken_and_is_no_message() -> None:
    sandbox = Sandbox(Knobs())
    async with served(sandbox) as base_url:
        client = Http(base_url, {"authorization": "Bearer any"})
        path = f"v25.0/{PHONE_NUMBER_ID}/messages"
        tick = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1"}
        answer = await client.post(path, json.dumps(tick).encode(), "application/json")
        assert (answer.status, answer.json()) == (200, {"success": True})
        listed = f"v25.0/{WABA_ID}/message_templates"
        told = (await client.get(listed, {"summary": "total_count", "name": "greeting"})).json()
        await client.aclose()
    assert told["summary"]["total_count"] == len(told["data"]) == 2
    assert sandbox.stats()["sends"] == 0


async def test_receipts_are_posted_signed_until_they_are_taken() -> None:
    bodies: list[bytes] = []
    done = asyncio.Event()

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(hook.requests[-1])
        status = b"503" if len(bodies) == 1 else b"200"
        writer.write(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        if len(bodies) > 1:
            done.set()

    async with play(hear) as hook:
        sandbox = Sandbox(Knobs(receipt_scale=0))
        async with served(sandbox, f"{hook.base_url}/hook?a=1") as base_url:
            provider = cloud(base_url)
            await provider.send(message("+4915112340009"))
            await done.wait()
            head, _, body = bodies[1].partition(b"\r\n\r\n")
            lines = [line.decode().partition(": ") for line in head.split(b"\r\n")[1:]]
            assert head.startswith(b"POST /hook?a=1 ")
            assert provider.verify({key: value for key, _, value in lines}, body)
            assert len(provider.parse(json.loads(body))) == 1
            await provider.aclose()


async def test_it_listens_on_this_machine_only() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.com"):  # noqa: S104  # it must not
        with pytest.raises(Refused, match="does not listen"):
            listen(host, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_says_where_and_ends_cleanly(number: signal.Signals) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, "--port", "0", stdout=pipe, stderr=pipe
    )
    assert process.stdout is not None
    base_url = (await process.stdout.readline()).decode().strip()
    provider = cloud(base_url)
    assert isinstance(await provider.send(message("+4915112340001")), Accepted)
    await provider.aclose()
    process.send_signal(number)
    assert await process.communicate() == (b"", b"")
    assert process.returncode == 0


async def test_a_request_is_one_that_meta_takes() -> None:
    """PROVIDERS 1.2: the envelope, the plus, the ref; nothing of the body left out."""
    seen: list[bytes] = []

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(played.requests[-1])
        writer.close()

    async with play(look) as played:
        provider = cloud(played.base_url)
        await provider.send(Message("+49151", {"type": "text", "text": {"body": "ä 👍"}}, "r"))
        await provider.aclose()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(f"POST /v25.0/{PHONE_NUMBER_ID}/messages HTTP/1.1\r\n".encode())
    assert b"authorization: bearer t0ken" in head.lower()
    assert json.loads(body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+49151",
        "type": "text",
        "text": {"body": "ä 👍"},
        "biz_opaque_callback_data": "r",
    }
