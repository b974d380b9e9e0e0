"""What becomes of one message: its states, the verdicts, and what follows from them.

Pure. `settle` is the one place that decides what a verdict means for a row; the
tables of the providers only say which verdict an answer is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


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


Verdict = Accepted | Deferred | Rejected | Halted | Lost
