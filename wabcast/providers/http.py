"""One way out: requests that never hide whether they left.

The only module that imports httpx (and the aiohttp beneath it); the others take names from
here. What a reader must not break: `Unsent` is raised only when no byte of the request can
have reached the far side; anything else that goes wrong is `Unsure`. A message that is
retried on a false `Unsent` reaches a person twice.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx import AsyncBaseTransport, ReadError, RemoteProtocolError, Request, Response
from httpx_aiohttp import AiohttpTransport

from wabcast import __version__, failpoints
from wabcast.errors import Refused, UsageError
from wabcast.untrusted import clean_text, load_json

__all__ = [
    "Answer",
    "AsyncBaseTransport",
    "Http",
    "HttpFault",
    "ReadError",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Unsent",
    "Unsure",
    "base_url",
    "is_loopback",
]

TIMEOUT = 30.0
"""Seconds a request may take as a whole, connecting and reading included."""

LARGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read."""

# An idle connection that the far side closes at the moment our POST leaves on it is a message
# in doubt. Servers keep theirs for 5 s (uvicorn) to 60 s and more: let go well before them.
KEEPALIVE = 2.0

# httpx-aiohttp calls every aiohttp.ClientConnectionError a ConnectTimeout, a server that hung
# up after the request among them. These alone mean that no connection ever stood.
_NEVER_LEFT = (
    aiohttp.ClientConnectorError,  # refused, DNS, TLS
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
_NEVER_LEFT_HTTPX = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_FAULTS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)

for _name in ("httpx", "httpcore", "aiohttp"):
    # At INFO they write URLs; an app secret's proof may stand in one.
    logging.getLogger(_name).setLevel(logging.WARNING)


class HttpFault(Exception):  # a fact of the network, not a fault of ours
    """No usable answer came. Its text never holds a secret."""


class Unsent(HttpFault):
    """The request surely never left."""


class Unsure(HttpFault):
    """It may have left, and there is no answer to tell."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def words(self) -> str:
        """The beginning of the body as text."""
        return clean_text(self.body[:2000].decode("utf-8", "replace"))

    def json(self) -> Any:
        """The body as JSON, sanitised, or None where it is none."""
        try:
            return load_json(self.body)
        except (ValueError, RecursionError):
            return None


class Http:
    """Requests to one server with one set of headers, each bounded as a whole.

    `secrets` are blanked in whatever is said about a failure. `transport` is httpx's seam:
    the sandbox and the tests sit there; without one, real sockets.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        concurrency: int = 10,
        timeout: float = TIMEOUT,  # one bound for all requests
        transport: AsyncBaseTransport | None = None,
        secrets: Iterable[str] = (),
        uds: str | None = None,
        near: bool = False,
    ) -> None:
        self.base = base_url(base, near=near) if transport is None else base.rstrip("/")
        self.timeout = timeout
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 4)
        # Not compressed: the answers are tiny, and the bound on their size is exact.
        told = {"user-agent": f"wabcast/{__version__}", "accept-encoding": "identity", **headers}
        self._headers = httpx.Headers(told)
        self._urls: dict[str, httpx.URL] = {}
        # Never more than half of the whole: what times out later than this has left.
        patience = min(10.0, timeout / 2)
        self._extensions = {"timeout": {"pool": patience}}
        self._transport = transport or Sockets(self.base, told, concurrency, patience, uds)

    def __repr__(self) -> str:
        return f"Http({self.base!r})"

    async def post(
        self,
        path: str,
        content: bytes,
        content_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        told = (
            {"content-type": content_type, **headers} if headers else {"content-type": content_type}
        )
        way = self._transport
        if not isinstance(way, Sockets):
            return await self._ask("POST", path, content, told)
        try:
            async with asyncio.timeout(self.timeout):
                return await way.post(f"{self.base}/{path}", content, told)
        except _FAULTS as exc:
            raise self._fault(exc) from None

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        return await self._ask("GET", f"{path}?{urlencode(query)}" if query else path)

    async def aclose(self) -> None:
        await self._transport.aclose()

    def scrub(self, text: str) -> str:
        """`text` without our secrets: error messages of servers quote tokens."""
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text

    async def _ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        request = Request(
            method,
            self._url(path),
            headers=self._headers,
            content=content,
            extensions=self._extensions,
        )
        if headers:
            request.headers.update(headers)
        async with self._bounded():
            response = await self._transport.handle_async_request(request)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
        return Answer(response.status_code, response.headers, body)

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.timeout):
                yield
        except _FAULTS as exc:
            raise self._fault(exc) from None

    def _fault(self, exc: Exception) -> HttpFault:
        # aiohttp's own timeouts are of both kinds, and know better what had left.
        if isinstance(exc, TimeoutError) and not isinstance(exc, aiohttp.ClientError):
            return Unsure(f"no complete answer within {self.timeout:g} s")
        text = self.scrub(_describe(exc))
        return Unsent(text) if _never_left(exc) else Unsure(text)

    def _url(self, path: str) -> httpx.URL:
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) > 100:
                self._urls.clear()
            url = self._urls[path] = httpx.URL(f"{self.base}/{path}")
        return url


async def _read(response: Response) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise _too_large()
    return b"".join(chunks)


def _too_large() -> Unsure:
    return Unsure(f"the answer is larger than {LARGEST_ANSWER // 1_000_000} MB")


def _never_left(exc: Exception) -> bool:
    cause = exc if isinstance(exc, aiohttp.ClientError) else exc.__cause__
    if isinstance(cause, aiohttp.ClientError):
        return isinstance(cause, _NEVER_LEFT)
    return isinstance(exc, _NEVER_LEFT_HTTPX)


def _describe(exc: Exception) -> str:
    """Words of ours, with the system's where they say more: other texts may quote a URL."""
    cause = exc if isinstance(exc, aiohttp.ClientError) else exc.__cause__ or exc
    match cause:
        case aiohttp.ClientConnectorCertificateError():
            return f"{cause.host} does not show a certificate that can be trusted"
        case aiohttp.ClientConnectorError():
            what = cause.os_error.strerror or type(cause.os_error).__name__
            return f"cannot connect to {cause.host}:{cause.port}: {what}"
        case aiohttp.ConnectionTimeoutError() | httpx.ConnectTimeout():
            return "cannot connect: no answer"
        case aiohttp.ServerDisconnectedError() | httpx.RemoteProtocolError():
            return "the connection was cut before an answer came"
        case aiohttp.ClientPayloadError() | httpx.ReadError():
            return "the connection was cut in the middle of the answer"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case OSError() if cause.strerror:
            return f"the connection broke: {cause.strerror}"
        case _:
            return f"the connection broke: {type(cause).__name__}"


class Sockets(AsyncBaseTransport):
    """Real sockets behind httpx's seam, and beside it a short way for messages.

    Both use the same connections. On the short way nothing is made of a message that only the
    seam would look at: httpx's request and response, and all their headers decoded, cost more
    than half of what aiohttp does for one.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        concurrency: int,
        patience: float,  # seconds until a connection stands
        uds: str | None,
    ) -> None:
        self._headers = dict(headers)
        self._limit = max(concurrency, 1)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=patience)
        self._uds = uds
        self._proxy = _proxy_for(base)
        self._session: aiohttp.ClientSession | None = None
        self._seam = AiohttpTransport(proxy=httpx.Proxy(self._proxy) if self._proxy else None)
        self._seam.client = self._open

    async def handle_async_request(self, request: Request) -> Response:
        answer: Response = await self._seam.handle_async_request(request)
        return answer

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        session = self._session or self._open()
        async with session.post(
            url, data=content, headers=headers, allow_redirects=False, proxy=self._proxy
        ) as response:
            length, body = response.content_length, bytearray()
            if length is None or length > LARGEST_ANSWER or "content-encoding" in response.headers:
                async for chunk in response.content.iter_chunked(16_384):
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        raise _too_large()
            else:
                body += await response.read()
            return Answer(response.status, response.headers, bytes(body))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            limit = self._limit
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(path=self._uds, limit=limit, keepalive_timeout=KEEPALIVE)
                if self._uds
                else aiohttp.TCPConnector(
                    limit=limit, keepalive_timeout=KEEPALIVE, ssl=self._seam.ssl_context
                )
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=self._timeout,
                # No cookies: what one answer sets is nothing to the next person's message.
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=_traces(),
            )
        return self._session


def _proxy_for(base: str) -> str | None:
    """What HTTPS_PROXY and NO_PROXY say of this server; loopback needs none."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy and proxy.startswith("http") else None


def is_loopback(host: str) -> bool:
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def base_url(text: str, *, near: bool = False) -> str:
    """`text` without its last slash, if a token may go there; raises Refused or UsageError.

    `near` is for gateways that people run themselves: plain http may go to the local network.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.query or parts.fragment or parts.username:
        raise UsageError(f"not a base URL: {text!r}", hint="as in https://graph.facebook.com")
    if parts.scheme == "http" and not is_loopback(host) and not (near and _is_near(host)):
        raise Refused(
            f"plain http to {host} would show the token to everybody on the way",
            hint="use https; plain http only goes to this machine (127.0.0.1, localhost)",
        )
    if parts.scheme not in {"http", "https"}:
        raise UsageError(f"not a base URL: {text!r}", hint="it begins with https://")
    return text.rstrip("/")


def _is_near(host: str) -> bool:
    """A private address, or a name without a dot, as a container has."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _traces() -> list[aiohttp.TraceConfig] | None:
    """Where a test kills us between the request and its answer; otherwise nothing."""
    if not failpoints.armed("after-write"):
        return None

    async def written(*_: object) -> None:
        # aiohttp tells just before it writes, so a moment later it has.
        asyncio.get_running_loop().call_later(0.002, failpoints.failpoint, "after-write")

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(written)
    return [trace]
