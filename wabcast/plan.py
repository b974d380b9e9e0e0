"""What a run is given: what to do, what it needs of others, and how it tells that it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from wabcast.delivery import Retry

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.campaign import CampaignStatus
    from wabcast.canary import Canary
    from wabcast.delivery import Verdict
    from wabcast.errors import Exit
    from wabcast.message import Message
    from wabcast.store.ledger import Due


class Sender(Protocol):
    """What the engine needs of a provider."""

    async def send(self, message: Message) -> Verdict: ...


Say = Callable[["Due"], Mapping[str, Any]]
"""Renders the message object for one person; raises Unsayable."""

Quiet = Callable[["Due | None", "datetime"], timedelta]
"""How long nothing may go to this person (None: to anybody) from now on; zero for now."""


PATIENCE = timedelta(minutes=10)
"""For so long a run waits for an account that cannot send, unless it is told otherwise."""


def always(_message: Due | None, _now: datetime) -> timedelta:
    """No quiet hours."""
    return timedelta(0)


@dataclass(slots=True)
class Plan:
    """What a run is to do, beside the campaign itself."""

    campaign_id: str
    concurrency: int
    not_after: datetime | None = None
    canary: Canary | None = None
    cap_account: int | None = None
    put_off: str = "next attempt due"
    quiet: Quiet = always
    attended: bool = True
    patience: timedelta = PATIENCE
    retry: Retry = field(default_factory=Retry)

    @property
    def any_time(self) -> bool:
        """Whether it makes no difference when a message leaves."""
        return self.not_after is None and self.quiet is always


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: `exit` as in CLI.md, `reason` for people."""

    exit: Exit
    status: CampaignStatus
    reason: str | None = None
