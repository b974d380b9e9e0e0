"""What a campaign was checked against before a run takes it: its row, its account, its templates.

Invariant: a run takes what was checked, so whatever it reads before it has the campaign is in the
snapshot, and `unchanged` is asked in the transaction that takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wabcast.store import accounts, campaigns, condition, templates

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of one moment. `definitions`: WhatsApp's of the template that the campaign names."""

    campaign: Campaign
    account: Account
    red_since: str | None
    definitions: list[dict[str, Any]]


def snapshot(db: Connection, campaign: Campaign) -> Snapshot:
    """In the caller's transaction. Raises NotFound where the campaign is gone."""
    now = campaigns.by_id(db, campaign.id)
    account = accounts.get(db, now.account)
    named = now.content.get("template")
    name = named.get("name") if isinstance(named, Mapping) else None
    return Snapshot(
        now,
        account,
        condition.red_since(db, account.id),
        templates.definitions(db, account.id, name) if isinstance(name, str) else [],
    )


def unchanged(seen: Snapshot, now: Snapshot) -> bool:
    """Whether what was checked is still what there is."""
    return (
        (seen.campaign.id, seen.campaign.revision) == (now.campaign.id, now.campaign.revision)
        and accounts.said_of(seen.account) == accounts.said_of(now.account)
        and seen.red_since == now.red_since
        and seen.definitions == now.definitions
    )
