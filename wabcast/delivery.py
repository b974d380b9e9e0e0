"""What becomes of one message: its states, the verdicts, and what follows from them.

Pure. `settle` is the one place that decides what a verdict means for a row; the
tables of the providers only say which verdict an answer is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, assert_never

from wabcast.untrusted import clean_text


class Scope(StrEnum):
    """Whom a refusal is about, and so who has to wait or stop."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    CAMPAIGN = "campaign"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took it: a 2xx with a message id. `held` is template pacing, not an error."""

    message_id: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """It surely did not go, and may go later.

    `scope` ACCOUNT is throttling (or an account that cannot be reached): everybody waits and
    the attempt is given back. RECIPIENT is the pair limit: this person only. MESSAGE is a
    transient fault, counted as an attempt. `after` is what the provider asked for, if it did.
    """

    code: str
    reason: str
    after: timedelta | None = None
    scope: Scope = Scope.MESSAGE


@dataclass(frozen=True, slots=True)
class Rejected:
    """This recipient or this message will never go.

    `scope` RECIPIENT never trips the breaker, MESSAGE does after `halt_after` in a row.
    `opt_out` also opts the contact out.
    """

    code: str
    reason: str
    scope: Scope = Scope.RECIPIENT
    opt_out: bool = False
    halt_after: int = 20


@dataclass(frozen=True, slots=True)
class Halted:
    """The template (CAMPAIGN) or the account (ACCOUNT) is at fault: nobody's message failed."""

    code: str
    reason: str
    scope: Scope = Scope.ACCOUNT


@dataclass(frozen=True, slots=True)
class Lost:
    """It may have left, and we have no outcome."""

    reason: str
    code: str = "lost"


SAME_ID = Lost("the answer has the id of another message", "same_id")
"""What an acceptance is worth whose id is another message's: no receipt would find it."""


class Unsayable(Exception):  # a fact about a person's data
    """The message cannot be said to this person; `skip` says whether that was foreseen."""

    def __init__(self, code: str, reason: str, *, skip: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.skip = skip


Verdict = Accepted | Deferred | Rejected | Halted | Lost


def sanitized(verdict: Verdict) -> Verdict:
    """The verdict in texts that can be stored, whatever a provider has read into it."""
    if isinstance(verdict, Accepted) and verdict.message_id.isprintable():
        return verdict
    texts = {field.name: getattr(verdict, field.name) for field in fields(verdict)}
    found: dict[str, Any] = {
        name: clean_text(text) for name, text in texts.items() if text.__class__ is str
    }
    return replace(verdict, **found)


class MessageStatus(StrEnum):
    PENDING = "pending"
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    REPLIED = "replied"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    SKIPPED = "skipped"


_M = MessageStatus
_REACHED = frozenset({_M.SENT, _M.DELIVERED, _M.READ, _M.REPLIED})

MESSAGE_LIFECYCLE: Mapping[MessageStatus, frozenset[MessageStatus]] = {
    _M.PENDING: frozenset({_M.QUEUED, _M.SKIPPED, _M.FAILED}) | _REACHED,
    _M.QUEUED: frozenset({_M.FAILED, _M.IN_DOUBT, _M.PENDING, _M.SKIPPED}) | _REACHED,
    _M.IN_DOUBT: frozenset({_M.FAILED, _M.PENDING}) | _REACHED,
    _M.SENT: frozenset({_M.DELIVERED, _M.READ, _M.REPLIED, _M.FAILED}),
    _M.DELIVERED: frozenset({_M.READ, _M.REPLIED}),
    _M.READ: frozenset({_M.REPLIED}),
    _M.REPLIED: frozenset(),
    _M.FAILED: frozenset({_M.PENDING}) | _REACHED,
    _M.SKIPPED: frozenset({_M.PENDING}) | _REACHED,
}
"""What may follow what. `queued → skipped`: it did not go, and its campaign is over. From
`pending` or `skipped` straight to `sent`: a receipt proves that an attempt thought refused has
gone. `failed → delivered`: evidence beats a failure told before."""

RANK = {_M.SENT: 1, _M.DELIVERED: 2, _M.READ: 3, _M.REPLIED: 4}


@dataclass(frozen=True, slots=True)
class Retry:
    """When a deferred message is tried again. Seed: 3 attempts, exponential."""

    limit: int = 3
    first: timedelta = timedelta(seconds=2)
    longest: timedelta = timedelta(minutes=10)
    pair_limit: int = 6

    def wait(self, attempts: int, chance: float) -> timedelta:
        """After the `attempts`-th try, `chance` in 0..1 spreading it by a quarter either way."""
        # Attempts are counted over the whole life of a message: they may be many.
        plain: timedelta = min(self.first * (1 << min(attempts - 1, 20)), self.longest)
        return plain * (0.75 + chance / 2)

    def wait_for_pair(self, attempts: int) -> timedelta:
        """4^X seconds, X from 0 (PROVIDERS 2.2, 131056)."""
        return timedelta(seconds=min(4 ** min(attempts - 1, 10), 3600))


@dataclass(frozen=True, slots=True)
class Settled:
    """What a verdict makes of a row, and what else it asks for.

    `wait` is set where the row is pending again; `give_back` takes the attempt off the count.
    `cool` holds back everybody on the account, for that long at least. `halt` stops the
    campaign, or all of the account.
    """

    status: MessageStatus
    message_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    wait: timedelta = timedelta(0)
    give_back: bool = False
    opt_out: bool = False
    cool: timedelta | None = None
    halt: Halted | None = None


def settle(attempts: int, verdict: Verdict, *, retry: Retry, chance: float) -> Settled:
    """What follows from `verdict` on the `attempts`-th try (from 1). Pure and total.

    The count goes on when a person has the failed ones tried again (`campaign retry`), so that
    no two requests share a ref: hence every third try, not the third, is a last one.
    """
    match verdict:
        case Accepted(message_id):
            return Settled(_M.SENT, message_id=message_id)
        case Deferred(code, reason, after, Scope.ACCOUNT):
            return Settled(
                _M.PENDING,
                error_code=code,
                error_message=reason,
                give_back=True,
                cool=after or timedelta(0),
            )
        case Deferred(code, reason, after, scope):
            pair = scope is Scope.RECIPIENT
            if attempts % (retry.pair_limit if pair else retry.limit) == 0:
                told = f"{reason} (given up after {attempts} attempts)"
                return Settled(_M.FAILED, error_code=code, error_message=told)
            wait = retry.wait_for_pair(attempts) if pair else retry.wait(attempts, chance)
            return Settled(
                _M.PENDING,
                error_code=code,
                error_message=reason,
                wait=max(wait, after or timedelta(0)),
            )
        case Rejected(code, reason):
            return Settled(
                _M.FAILED, error_code=code, error_message=reason, opt_out=verdict.opt_out
            )
        case Halted(code, reason):
            return Settled(
                _M.PENDING,
                error_code=code,
                error_message=reason,
                give_back=True,
                halt=verdict,
            )
        case Lost(reason, code):
            return Settled(_M.IN_DOUBT, error_code=code, error_message=reason)
        case _:
            assert_never(verdict)


class Breaker:
    """Stops a campaign that fails and fails: so many of one kind in a row, or half of the last
    hundred. Faults of recipients never count, throttling is the cool-down's business.
    """

    def __init__(self, in_a_row: int = 20, window: int = 100) -> None:
        self._limit = in_a_row
        self._recent: deque[str | None] = deque(maxlen=window)
        self._kind: str | None = None
        self._row = 0
        self._any_accepted = False

    def note(self, verdict: Verdict) -> str | None:
        """Take note of an outcome; the reason to stop, or None."""
        match verdict:
            case Accepted():
                self._any_accepted = True
                self._recent.append(None)
                self._kind, self._row = None, 0
                return None
            case Rejected(code, reason, Scope.MESSAGE):
                limit = min(self._limit, verdict.halt_after)
                if self._any_accepted:
                    limit = max(limit, 3)  # one odd row is not the template's fault
                return self._failed(f"{code} {reason}", limit)
            case Deferred(code, reason, _, Scope.MESSAGE):
                return self._failed(f"{code} {reason}", self._limit)
            case Lost(_, code):
                return self._failed(f"{code}: no usable answer", self._limit)
            case _:
                return None

    def _failed(self, kind: str, limit: int) -> str | None:
        self._recent.append(kind)
        self._row = self._row + 1 if kind == self._kind else 1
        self._kind = kind
        if self._row >= limit:
            return f"{self._row} failures in a row: {kind}"
        alike = self._recent.count(kind) if len(self._recent) == self._recent.maxlen else 0
        if alike * 2 >= (self._recent.maxlen or 0) and alike:
            return f"{alike} of the last {len(self._recent)} failed: {kind}"
        return None
