"""Who is logged in to the page: a random cookie, and behind it the token that was shown once.

Kept in memory, so a restart asks again. What must not break: the cookie never holds the token;
a session ends with its token, and a form is taken only from a page of its own session.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wabcast.clock import SECOND

if TYPE_CHECKING:
    from wabcast.clock import Clock
    from wabcast.server.access import Access, Caller

COOKIE = "wabcast"

LASTS = 12 * 3600 * SECOND
"""A session ends so long after its log-in."""

AT_ONCE = 1000


@dataclass(slots=True)
class Session:
    """One log-in. `form` is the word its forms carry; `notes` are told on the next page."""

    id: str
    form: str
    caller: Caller
    until: int
    notes: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False

    def may(self, permission: str) -> bool:
        return self.caller.may(permission)

    def wrote(self, form: str) -> bool:
        """Whether a form comes from a page of this session."""
        return hmac.compare_digest(self.form.encode(), form.encode("utf-8", "replace"))

    def take_notes(self) -> list[tuple[str, str]]:
        notes, self.notes = self.notes, []
        return notes


class Sessions:
    """All of this process; the oldest goes where there are too many."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()

    def open(self, token: str, address: str) -> Session:
        """Log in. Raises Denied for a token that does not stand. Reads the file: in a thread."""
        caller = self._access.caller(token, address)
        until = self._clock.micros() + LASTS
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), caller, until)
        self._open[session.id] = session
        while len(self._open) > AT_ONCE:
            self._open.popitem(last=False)
        return session

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie, if it and its token still stand. Reads the file: in a thread."""
        session = self._open.get(cookie)
        if session is None:
            return None
        if self._clock.micros() > session.until or not self._access.still(session.caller):
            self.close(session)
            return None
        return session

    def close(self, session: Session) -> None:
        session.ended = True
        self._open.pop(session.id, None)
