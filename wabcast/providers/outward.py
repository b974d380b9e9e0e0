"""HTTP to a URL that a person gave us: never into this network unless they allowed so.

What a reader must not break: the address that was checked is the one that is connected to,
because a name may answer differently a moment later; and redirects are followed by nobody.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from wabcast.errors import Refused, UsageError
from wabcast.providers.http import AsyncBaseTransport, Http, Request, Response, Unsent

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From a name and a port to addresses."""

TIMEOUT = 10.0
"""Seconds that a request may take as a whole, and a name to be resolved."""

_HERE = frozenset({"localhost", "local", "localdomain", "internal", "ip6-localhost"})

_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that we may post to, in parts; `host` is ASCII, `path` has no slash before it."""

    base: str
    host: str
    port: int
    path: str
    plain: bool

    @classmethod
    def parse(cls, url: str, *, allow_private: bool) -> Target:
        """UsageError for what is no URL, Refused for one that is not safe."""
        try:
            parts = urlsplit(url)
            # A name ends at its dot: `localhost.` is `localhost`.
            host = (parts.hostname or "").rstrip(".").encode("idna").decode()
            port = parts.port or (80 if parts.scheme == "http" else 443)
        except ValueError:
            parts, host, port = urlsplit(""), "", 0
        clean = url.isprintable() and not any(map(str.isspace, url)) and "\\" not in url
        if not host or not clean or parts.scheme not in ("http", "https"):
            raise UsageError("not a URL for a hook", hint="as in https://example.com/wabcast")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise UsageError(
                "the URL of a hook has no user, password or fragment",
                hint="deliveries are signed: --secret SOURCE",
            )
        plain = parts.scheme == "http"
        if plain and not allow_private:
            raise Refused(
                f"plain http to {host} would show people's numbers to everybody on the way",
                hint="use https; --allow-private takes http to this machine or network",
            )
        literal = _literal(host)
        if literal is not None:
            _check(host, [literal], allow_private=allow_private, plain=plain)
        if _is_here(host) and not allow_private:
            raise Refused(
                f"{host} is inside this machine or network",
                hint="if that is meant: --allow-private",
            )
        name = f"[{host}]" if ":" in host else host
        path = parts.path.removeprefix("/") + (f"?{parts.query}" if parts.query else "")
        return cls(f"{parts.scheme}://{name}:{port}", host, port, path, plain)


def is_public(address: str) -> bool:
    """Whether the address lies in the open Internet, for everybody, and in no disguise."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local:
            return False
    return found.is_global and not (
        found.is_multicast or found.is_reserved or found.is_unspecified or found.is_private
    )


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:  # as resolvers read it: 127.1, 0x7f000001, 2130706433
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _is_here(host: str) -> bool:
    """Whether a name stands for this machine or its network wherever it is asked (RFC 6761, 8375).

    What others mean is seen when they are resolved.
    """
    return host.rpartition(".")[2].lower() in _HERE


def _check(host: str, found: list[str], *, allow_private: bool, plain: bool) -> None:
    """Every address, not the first: the far side chooses their order."""
    private = [one for one in found if not is_public(one)]
    if private and not allow_private:
        raise Refused(
            f"{host} is at {private[0]}, inside this machine or network",
            hint="if that is meant: --allow-private",
        )
    if plain and len(private) < len(found):
        raise Refused(f"plain http to {host}, which is in the open Internet", hint="use https")


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order in which the machine would try them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def addresses(
    target: Target, *, allow_private: bool, resolve: Resolve = look_up
) -> list[str]:
    """Where the target is, all of it checked. Refused, or Unsent where no name answers."""
    try:  # a name that takes too long is an OSError too
        async with asyncio.timeout(TIMEOUT):
            found = await resolve(target.host, target.port)
    except (OSError, UnicodeError):
        raise Unsent(f"the name {target.host} cannot be resolved") from None
    if not found:
        raise Unsent(f"the name {target.host} has no address")
    _check(target.host, found, allow_private=allow_private, plain=target.plain)
    return found


class _Pinned(AsyncBaseTransport):
    """Connects to `address`, whatever the name means by now; TLS still proves the name."""

    def __init__(self, inner: AsyncBaseTransport) -> None:
        self.address = ""
        self._inner = inner

    async def handle_async_request(self, request: Request) -> Response:
        url = request.url  # `Host` was written from it when the request was made
        if url.scheme == "https":
            name = url.raw_host.decode()
            request.extensions = {**request.extensions, "sni_hostname": name}
        request.url = url.copy_with(host=self.address)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Line(Http):
    """The requests to one target, each to an address that `addresses` gave."""

    def __init__(self, target: Target) -> None:
        # Plain http goes only to addresses that `_check` found inside, never through a proxy.
        super().__init__(
            "http://localhost" if target.plain else target.base,
            {},
            concurrency=1,
            timeout=TIMEOUT,
        )
        self.base = target.base
        self._pinned = self._transport = _Pinned(self._transport)

    async def post_to(self, address: str, path: str, body: bytes, headers: dict[str, str]) -> int:
        self._pinned.address = address
        return (await self.post(path, body, "application/json", headers)).status
