"""What a token is and what it may: roles, permissions, and when it counts no more.

Pure. What must not break: the token itself is never kept, only its SHA-256, and two of those
are compared in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum

from wabcast.clock import parse
from wabcast.errors import UsageError

PREFIX = "wab"
RANDOM = 36
"""Bytes of chance in a token: 4 name it, 32 are its secret."""

LONGEST_NAME = 64


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


_READ = frozenset(
    f"{what}:read"
    for what in (
        *("campaigns", "contacts", "segments", "templates", "accounts"),
        *("events", "metrics"),
    )
)
_WORK = frozenset(
    {f"campaigns:{verb}" for verb in ("create", "edit", "duplicate", "start", "pause")}
    | {f"{what}:write" for what in ("contacts", "segments", "templates")}
)
_ALL = frozenset(("campaigns:cancel", "campaigns:settle", "campaigns:delete", "contacts:delete"))

ROLES = {Role.VIEWER: _READ, Role.OPERATOR: _READ | _WORK, Role.ADMIN: _READ | _WORK | _ALL}
"""`campaigns:start` is also resume, `campaigns:settle` also retry (both may send again)."""

PERMISSIONS = tuple(sorted(ROLES[Role.ADMIN]))


@dataclass(frozen=True, slots=True)
class Token:
    """A row of `tokens`. `key` is the part of the token that may be shown; times are UTC text."""

    id: int
    key: str
    name: str
    role: str | None
    allow: tuple[str, ...]
    hash: str
    created_at: str
    created_by: str | None
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None

    @property
    def permissions(self) -> frozenset[str]:
        """What it may: its role's, and what was allowed beside."""
        return allowed(self.role, self.allow)

    def stands(self, now: datetime) -> bool:
        """Whether it is neither revoked nor past its time."""
        return self.revoked_at is None and (self.expires_at is None or now < parse(self.expires_at))


def allowed(role: str | None, allow: Iterable[str]) -> frozenset[str]:
    return (ROLES[Role(role)] if role else frozenset()) | frozenset(allow)


def check(name: str, role: str | None, allow: Iterable[str]) -> None:
    """UsageError for a name that cannot be, an unknown role or permission, or a token for nothing.

    A name is what the events say did it, so it is one word that a terminal and a log can show.
    """
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise UsageError("a token's name is one line of text", hint="as in: web-shop")
    if len(name) > LONGEST_NAME or name[0] == "-":
        raise UsageError(
            f"not a name for a token: {name[:20]!r}",
            hint=f"up to {LONGEST_NAME} characters that do not begin with a dash",
        )
    if role is not None and role not in set(Role):
        raise UsageError(f"not a --role: {role!r}", hint=", ".join(Role))
    for permission in allow:
        if permission not in PERMISSIONS:
            near = get_close_matches(permission, PERMISSIONS, n=1)
            known = f"did you mean {near[0]}?" if near else f"there are: {', '.join(PERMISSIONS)}"
            raise UsageError(f"no permission is called {permission!r}", hint=known)
    if not allowed(role, allow):
        raise UsageError(
            "a token that may nothing is of no use",
            hint="--role viewer|operator|admin, or --allow PERMISSION",
        )


def mint(chance: bytes) -> str:
    """A new token out of `RANDOM` bytes of chance: `wab_KEY_SECRET`."""
    if len(chance) != RANDOM:
        raise ValueError(f"a token takes {RANDOM} bytes of chance")
    secret = base64.urlsafe_b64encode(chance[4:]).rstrip(b"=").decode()
    return f"{PREFIX}_{chance[:4].hex()}_{secret}"


def key_of(token: str) -> str:
    """The part of a token that finds its row; empty for what is no token."""
    prefix, _, rest = token.partition("_")
    key, _, secret = rest.partition("_")
    return key if prefix == PREFIX and len(key) == 8 and secret else ""


def hashed(token: str) -> str:
    """SHA-256 in hex. A fast hash is enough: a token has 256 bits of chance."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def matches(token: str, kept: str | None) -> bool:
    """Whether `token` is the one whose hash was kept; as long for None as for a wrong one."""
    return hmac.compare_digest(hashed(token), kept or "0" * 64) and kept is not None
