"""Local media on their way to WhatsApp: looked at, then uploaded once for an account.

What must not break: what was looked at is what goes. A file is read once, and the bytes that
were read are judged again before they leave.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast import media
from wabcast.clock import Clock
from wabcast.errors import BadContent
from wabcast.store import media as kept

if TYPE_CHECKING:
    from wabcast.providers.base import Provider
    from wabcast.store.database import Connection

_HEAD = 16


def problem(kind: str, file: str) -> str | None:
    """Why this local file cannot go as `kind`; looks at its size and its first bytes."""
    try:
        with Path(file).open("rb") as opened:
            return _judge(kind, file, opened.read(_HEAD), Path(file).stat().st_size)
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, ValueError) as exc:
        return f"cannot be read: {getattr(exc, 'strerror', None) or exc}"


async def upload(
    db: Connection, account: int, provider: Provider, kind: str, file: str, clock: Clock
) -> str:
    """The id of a local file on `account` (its row): a known one, or that of an upload now.

    Raises BadContent for what WhatsApp would not take, WabcastError where it did not get it.
    """
    wrong = await asyncio.to_thread(problem, kind, file)
    if wrong:
        raise BadContent(f"{kind} {file}: {wrong}", hint="nothing was sent")
    content = await asyncio.to_thread(Path(file).read_bytes)
    wrong = _judge(kind, file, content[:_HEAD], len(content))
    if wrong:
        raise BadContent(f"{kind} {file}: {wrong}", hint="nothing was sent")
    mime = media.media_type(file)
    digest = await asyncio.to_thread(_digest, mime, content)
    media_id = None if is_played(provider) else kept.find(db, account, digest, now=clock.now())
    if media_id is None:
        media_id = await provider.upload(Path(file).name, mime, content)
        if not is_played(provider):
            kept.keep(db, account, digest, media_id, now=clock.now())
    return media_id


def is_played(provider: Provider) -> bool:
    """Whether this WhatsApp is ours and lives in this process: it forgets its media with it."""
    return hasattr(provider, "drain")


def _judge(kind: str, file: str, head: bytes, size: int) -> str | None:
    named = media.media_type(file)
    seen = media.true_type(head)
    if seen and seen != named and kind != "document":
        return f"is {seen} by its content and {named} by its name; WhatsApp refuses that"
    return media.media_problem(kind, named, size)


def _digest(mime: str, content: bytes) -> str:
    """By type too: the same bytes uploaded as another type are another medium."""
    return f"{mime} {hashlib.sha256(content).hexdigest()}"
