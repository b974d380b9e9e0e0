"""Whether a link to a medium can be fetched, before a campaign makes WhatsApp try it.

What must not break: it asks as a stranger. No token, no cookie, and a redirect is followed only
to https, so that a link cannot lead the question into this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from wabcast.errors import WabcastError
from wabcast.media import media_problem
from wabcast.providers.http import Answer, Http, HttpFault, Request, is_loopback

TIMEOUT = 10.0
REDIRECTS = 2
_MOVED = frozenset({301, 302, 303, 307, 308})


async def unreachable(link: str, kind: str, *, timeout: float = TIMEOUT) -> str | None:  # noqa: ASYNC109  # of each request, bounded in Http
    """Why `link` cannot go as `kind` (image, video, ...); None where it can, as far as is seen.

    Plain http is asked only of this machine, elsewhere it is let pass: `message.notes` warns.
    """
    ours = _is_ours(link)
    for _ in range(REDIRECTS + 1):
        if urlsplit(link).scheme.lower() == "http" and not (ours and _is_ours(link)):
            return None
        try:
            answer = await _head(link, timeout)
        except (HttpFault, WabcastError) as exc:
            return f"cannot be fetched: {exc}"
        if answer.status not in _MOVED:
            return _judge(answer, kind)
        link = urljoin(link, answer.headers.get("location", ""))
        if urlsplit(link).scheme.lower() != "https" and not (ours and _is_ours(link)):
            return "redirects to where there is no https"
        if _is_ours(link) and not ours:
            return "redirects to the machine that asks"
    return f"redirects more than {REDIRECTS} times"


def _judge(answer: Answer, kind: str) -> str | None:
    if answer.status not in (200, 206):
        return f"cannot be fetched: HTTP {answer.status}"
    length = answer.headers.get("content-length", "")
    size = int(length) if length.isascii() and length.isdecimal() else 1
    return media_problem(kind, answer.headers.get("content-type") or "what is there", size)


async def _head(link: str, timeout: float) -> Answer:  # noqa: ASYNC109  # as above
    parts = urlsplit(link)
    http = _Glance(f"{parts.scheme}://{parts.netloc}", {}, concurrency=1, timeout=timeout)
    try:
        path = parts.path.removeprefix("/")
        return await http.get(f"{path}?{parts.query}" if parts.query else path)
    finally:
        await http.aclose()


class _Glance(Http):
    """Reads the head of an answer and hangs up: many servers know no HEAD, all know GET."""

    async def _ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        del content, headers  # a GET has none
        request = Request(
            method, self._url(path), headers=self._headers, extensions=self._extensions
        )
        async with self._bounded():
            response = await self._transport.handle_async_request(request)
            await response.aclose()
        return Answer(response.status_code, response.headers, b"")


def _is_ours(link: str) -> bool:
    return is_loopback(urlsplit(link).hostname or "")
