"""Rows in the state a test wants them, put there by the program's own statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pysqlite3.dbapi2 import Connection

from wabcast import drafts
from wabcast.audience import EVERYBODY, Audience
from wabcast.campaign import Campaign, CampaignStatus
from wabcast.clock import Clock, text
from wabcast.delivery import MessageStatus
from wabcast.drafts import Draft
from wabcast.store import accounts, campaigns, decisions
from wabcast.store.accounts import Account
from wabcast.store.database import immediate
from wabcast.store.decisions import Chosen, Decided
from wabcast.store.ledger import Due, due

EVERYBODYS = Chosen()


def nobody(_campaign: Campaign) -> bool:
    """No process is at work on it."""
    return False


CONTENT = {"type": "text", "text": {"body": "Hello"}}

CONTACT = "insert into contacts (phone, created_at, updated_at) values (?, ?, ?) returning id"

MESSAGE = """
insert into campaign_messages (campaign_id, contact_id, due_at) values (?, ?, ?) returning id
"""

COUNTED = """
update campaigns set total_recipients = total_recipients + 1, pending = pending + 1
 where number = ?
"""

_AT = {
    MessageStatus.SENT: ("sent_at",),
    MessageStatus.DELIVERED: ("sent_at", "delivered_at"),
    MessageStatus.READ: ("sent_at", "delivered_at", "read_at"),
    MessageStatus.REPLIED: ("sent_at", "delivered_at", "read_at", "replied_at"),
    MessageStatus.FAILED: ("failed_at",),
}
_REASON = frozenset({MessageStatus.FAILED, MessageStatus.IN_DOUBT, MessageStatus.SKIPPED})


class Make:
    """What is not named is what does not matter: one account, one campaign, new people."""

    def __init__(self, db: Connection, clock: Clock) -> None:
        self.db = db
        self.clock = clock
        self._people = 0
        self._campaign: Campaign | None = None

    @property
    def at(self) -> str:
        return text(self.clock.micros())

    def account(self, name: str = "shop", provider: str = "sandbox", **columns: Any) -> Account:
        return accounts.add(self.db, Account(name, provider, **columns), now=self.clock.now())[0]

    def contact(self, phone: str | None = None, **columns: Any) -> int:
        """A person, by default with a quiet fate; `columns` as the table has them."""
        with immediate(self.db):
            number = self._contact(phone)
            self._set("contacts", number, columns)
        return number

    def _contact(self, phone: str | None = None) -> int:
        self._people += 1
        phone = phone or f"+4915{self._people:07d}11"
        return int(self.db.execute(CONTACT, (phone, self.at, self.at)).fetchone()[0])

    def campaign(
        self,
        name: str = "spring",
        *,
        people: int = 0,
        status: str = "draft",
        run_id: str | None = None,
        account: str = "shop",
        content: Mapping[str, Any] = CONTENT,
        audience: Audience = EVERYBODY,
        **draft: Any,
    ) -> Campaign:
        """A campaign for everybody there is, `people` of them new; `draft` as `Draft` has it."""
        if account not in {known.name for known in accounts.every(self.db)}:
            self.account(account)
        with immediate(self.db):
            for _ in range(people):
                self._contact()
        said = Draft(account=account, content=content, audience=audience, **draft)
        made = drafts.create(self.db, name, said, self.clock)
        with immediate(self.db):
            columns = {"status": CampaignStatus(status).value, "run_id": run_id}
            self._set("campaigns", made.number, columns, key="number")
        return self.look(made)

    def look(self, campaign: Campaign) -> Campaign:
        """The campaign as the file has it now."""
        return campaigns.by_number(self.db, campaign.number)

    def campaign_message(
        self,
        status: str = "pending",
        *,
        campaign: Campaign | None = None,
        contact: int | None = None,
        **columns: Any,
    ) -> int:
        """A message owed or past; times, attempts and reasons as the state needs them."""
        if campaign is None:
            self._campaign = self._campaign or self.campaign()
            campaign = self._campaign
        contact = contact or self.contact()
        state = MessageStatus(status)
        told: dict[str, Any] = {"status": state.value}
        if state not in (MessageStatus.PENDING, MessageStatus.SKIPPED):
            told |= {"attempts": 1, "queued_at": self.at, "run_id": campaign.run_id}
        told |= dict.fromkeys(_AT.get(state, ()), self.at)
        if state in _REASON:
            told |= {"error_code": "test", "error_message": "as the test wants it"}
        with immediate(self.db):
            made = (campaign.number, contact, self.at)
            number = int(self.db.execute(MESSAGE, made).fetchone()[0])
            self.db.execute(COUNTED, (campaign.number,))
            self._set("campaign_messages", number, told | columns)
        return number

    def due(self, campaign: Campaign, limit: int = 1000) -> list[Due]:
        """What is owed now, as a run reads it."""
        return due(self.db, campaign.number, now=self.at, after=("", 0), limit=limit)

    def cancel(self, campaign: Campaign, **more: Any) -> bool:
        """What a person does, as all the following."""
        more = {"reason": "cancelled by a person", "clock": self.clock, **more}
        return decisions.cancel(self.db, campaign, at=self.at, **more)

    def retry(self, campaign: Campaign, chosen: Chosen = EVERYBODYS, **more: Any) -> Decided:
        return decisions.retry(self.db, campaign, chosen, at=self.at, **self._decides(more))

    def settle(
        self, campaign: Campaign, outcome: str, chosen: Chosen = EVERYBODYS, **more: Any
    ) -> Decided:
        told = MessageStatus(outcome)
        return decisions.settle(self.db, campaign, told, chosen, at=self.at, **self._decides(more))

    def _decides(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"clock": self.clock, "is_held": nobody, "asked": {}, **more}

    def _set(self, table: str, number: int, columns: Mapping[str, Any], key: str = "id") -> None:
        if not columns:
            return
        named = ", ".join(f"{name} = :{name}" for name in columns)
        self.db.execute(
            f"update {table} set {named} where {key} = :the_key",  # noqa: S608  # a test's own names
            {**columns, "the_key": number},
        )
