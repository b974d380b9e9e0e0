"""What news prove of one message: its receipts, and the answer to its request.

Pure. Invariant: the order of news does not matter. Stamps are minima, the status is the highest
evidence, and whatever a failure says is void once the message was seen on the person's phone. Any
permutation, repetition or grouping ends in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wabcast.delivery import RANK, MessageStatus
from wabcast.receipts import Status

_M = MessageStatus
_RANK: dict[str, int] = {status.value: rank for status, rank in RANK.items()}
_NAME = {rank: status.value for status, rank in RANK.items()}

RANK_OF = {
    Status.SENT: RANK[_M.SENT],
    Status.DELIVERED: RANK[_M.DELIVERED],
    Status.READ: RANK[_M.READ],
    Status.PLAYED: RANK[_M.READ],
}
"""The rank that a receipt proves; FAILED has none."""

REPLIED = RANK[_M.REPLIED]

_NOT_OUT = frozenset({_M.PENDING.value, _M.SKIPPED.value})


class Taken(StrEnum):
    """What a failure told of a message."""

    TAKEN = "taken"
    """The row has it now, or had it before, or knows better."""
    EARLY = "early"
    """The row waits for another try; only if that message proves to have left does it count."""
    PAST = "past"
    """It is about another attempt than the one that counts."""


@dataclass(slots=True)
class Standing:
    """What is known of one `campaign_messages` row. Changed in place: there are millions.

    Times are UTC text with milliseconds, so that the least is the earliest. `message_id` is
    None until a message of WhatsApp's is known to be this row's; then what a run or a person
    said of a failure is void as soon as WhatsApp speaks.
    """

    id: int
    status: str
    attempts: int
    message_id: str | None = None
    queued_at: str | None = None
    sent_at: str | None = None
    delivered_at: str | None = None
    read_at: str | None = None
    replied_at: str | None = None
    failed_at: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    pricing: str | None = None

    def reach(self, rank: int, at: str, message_id: str | None = None) -> None:
        """WhatsApp took it (1), or it was delivered (2), read (3), replied to (4), at `at`."""
        said = self.message_id is not None
        if message_id is not None and not said:
            self.message_id = message_id
        self._left(at)
        if rank >= 2:
            self.delivered_at = _least(self.delivered_at, at)
            if rank >= 3:
                self.read_at = _least(self.read_at, at)
                if rank >= REPLIED:
                    self.replied_at = _least(self.replied_at, at)
        elif self.status == _M.FAILED and said:
            return  # that it was sent is no news against a failure after the sending
        if _RANK.get(self.status, 0) < rank:
            self.status = _NAME[rank]
        if self.error_code is not None or self.error_message is not None:
            self.error_code = self.error_message = None
        self.failed_at = None

    def fail(self, at: str, code: str, reason: str, message_id: str, *, current: bool) -> Taken:
        """WhatsApp says that it failed. `current`: of the attempt that the row counts last.

        It had taken it before: what it tells of has an id of its own.
        """
        if self.message_id is not None and self.message_id != message_id:
            return Taken.PAST
        if self.delivered_at is None and (
            self.status in _NOT_OUT or (self.message_id is None and not current)
        ):
            return Taken.EARLY
        self._left(at)
        if self.delivered_at is not None:
            return Taken.TAKEN
        told = self.status == _M.FAILED and self.message_id is not None
        self.message_id = message_id
        before = (self.failed_at or "", self.error_code or "", self.error_message or "")
        if not told or (at, code, reason) < before:
            self.status = _M.FAILED.value
            self.failed_at, self.error_code, self.error_message = at, code, reason
        return Taken.TAKEN

    def _left(self, at: str) -> None:
        """It has left, by `at` at the latest. The intent was committed just ahead of the request,
        and WhatsApp tells whole seconds: where it is known, the intent's time is the better one."""
        if self.sent_at is None:
            self.sent_at = self.queued_at or at
        elif self.queued_at is None and at < self.sent_at:
            self.sent_at = at

    def costs(self, category: str | None, kind: str | None) -> None:
        """What it costs, as `marketing/regular`; of two tellings the least, to have one."""
        told = f"{category or ''}/{kind or ''}"
        if told != "/":
            self.pricing = _least(self.pricing, told)


def _least(old: str | None, new: str) -> str:
    return new if old is None or new < old else old
