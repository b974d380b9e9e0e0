"""Whether it left: told apart on real sockets. `ProviderContract` does the rest."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import socket

import pytest

from wabcast.errors import Refused, UsageError
from wabcast.providers.http import LARGEST_ANSWER, Http, Unsent, Unsure, base_url, is_loopback
from wabcast.testing import answers, cuts, halves, play, says_nothing


async def ask(base: str, **more: float) -> bytes:
    http = Http(base, {}, **more)  # type: ignore[arg-type]  # only a timeout is ever given
    try:
        return (await http.post("x", b"{}", "application/json")).body
    finally:
        await http.aclose()


async def test_nobody_listens_there() -> None:
    with pytest.raises(Unsent, match=r"cannot connect to 127\.0\.0\.1"):
        await ask("http://127.0.0.1:9")


async def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(Unsent, match="cannot connect"):
        await ask("https://nowhere.invalid")


async def test_tls_with_a_server_that_speaks_none() -> None:
    async with play(answers(200, b"{}")) as played:
        with pytest.raises(Unsent):
            await ask(played.base_url.replace("http:", "https:"), timeout=0.4)


async def test_a_server_that_never_takes_the_connection() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(Unsent):
            await ask(f"http://127.0.0.1:{port}", timeout=0.2)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("way", [cuts, halves, says_nothing, answers(200, b" " * 1_000_001)])
async def test_what_breaks_after_the_request_is_unsure(way: object) -> None:
    async with play(way) as played:  # type: ignore[arg-type]  # all of them are ways
        with pytest.raises(Unsure):
            await ask(played.base_url, timeout=0.2)
        assert len(played.requests) == 1


async def test_rubbish_instead_of_http_is_unsure() -> None:
    async def babbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with play(babbles) as played:
        with pytest.raises(Unsure):
            await ask(played.base_url, timeout=2)


async def test_no_cookie_goes_back_and_no_secret_is_told() -> None:
    async with play(answers(200, b"{}", "Set-Cookie: a=b")) as played:
        http = Http(played.base_url, {"authorization": "Bearer s3cret"}, secrets=["s3cret"])
        for _ in range(2):
            await http.post("x", b"{}", "application/json")
        await http.aclose()
    assert b"cookie" not in played.requests[1].lower()
    assert b"Bearer s3cret" in played.requests[1]
    assert "s3cret" not in repr(http)
    assert http.scrub("a s3cret b") == "a [secret] b"


@pytest.mark.parametrize("size", [10, LARGEST_ANSWER + 1])
@pytest.mark.parametrize("told", ["Content-Encoding: gzip", "Transfer-Encoding: chunked"])
async def test_an_answer_that_says_too_little_of_its_length(told: str, size: int) -> None:
    body = b"x" * size
    sent = gzip.compress(body) if "gzip" in told else b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    length = f"\r\nContent-Length: {len(sent)}" if "gzip" in told else ""

    async def way(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{told}{length}\r\n\r\n".encode() + sent)
        await writer.drain()

    async with play(way) as played:
        if size > LARGEST_ANSWER:
            with pytest.raises(Unsure, match="larger than 1 MB"):
                await ask(played.base_url, timeout=10)
        else:
            assert await ask(played.base_url, timeout=10) == body


async def test_a_proxy_is_asked_with_its_password_and_a_refusal_of_it_is_unsent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with play(answers(407, b"")) as proxy:
        where = proxy.base_url.replace("//", "//ann:s3cret@")
        monkeypatch.setenv("https_proxy", where)
        with pytest.raises(Unsent) as refused:
            await ask("https://graph.example")
    assert proxy.requests[0].startswith(b"CONNECT graph.example:443 ")
    assert base64.b64encode(b"ann:s3cret") in proxy.requests[0]
    assert "s3cret" not in str(refused.value)


async def test_the_seam_and_the_short_way_send_the_same() -> None:
    told = {"authorization": "Bearer t", "x-more": "1"}
    async with play(answers(200, b"{}")) as played:
        http = Http(played.base_url, told)
        await http.post("a/b?c=d", b'{"x":1}', "application/json", {"x-own": "2"})
        await http._ask(
            "POST", "a/b?c=d", b'{"x":1}', {"content-type": "application/json", "x-own": "2"}
        )
        await http.aclose()
    short, seam = (
        (lines[0], sorted(line.lower() for line in lines[1:]))
        for lines in (request.split(b"\r\n") for request in played.requests)
    )
    assert short == seam


def test_the_loggers_below_are_quiet() -> None:
    assert logging.getLogger("httpx").level == logging.getLogger("aiohttp").level == 30


@pytest.mark.parametrize(
    "url", ["http://example.com", "http://127.0.0.1.example.com", "http://[::2]"]
)
def test_plain_http_stays_on_this_machine(url: str) -> None:
    with pytest.raises(Refused, match="plain http"):
        base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "graph.facebook.com",
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x?q=1",
        "http://[x",
    ],
)
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(UsageError):
        base_url(url)


def test_what_is_a_base_url() -> None:
    assert base_url("https://graph.facebook.com/") == "https://graph.facebook.com"
    assert base_url("http://localhost:8090") == "http://localhost:8090"
    assert is_loopback("[::1]")
    assert not is_loopback("localhost.example.com")
