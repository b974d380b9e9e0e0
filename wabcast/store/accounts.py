"""Accounts: the senders, their settings and where their secrets are kept.

A row holds a secret's source, never its value; the slots of an account are the gate's affair
and are not touched here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from wabcast import clock
from wabcast.errors import NotFound, Refused, UsageError
from wabcast.store import condition
from wabcast.store.database import immediate

if TYPE_CHECKING:
    from wabcast.store.database import Connection, Row

LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Account:
    """A sender. `rate` as `80/s`, None: the provider's own; `daily_cap`: people in 24 hours.

    `secrets` are sources (`env:VAR`, `file:PATH`, `keyring:SERVICE/USER`), not values.
    `cooling_until` is in microseconds since the epoch, 0: never was. `quality`, `tier` and
    `own_rate` are what WhatsApp said last (`store.condition`).
    """

    name: str
    provider: str
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    rate: str | None = None
    daily_cap: int | None = None
    ramp: str | None = None
    id: int = 0
    first_used_at: str | None = None
    cooling_until: int = 0
    cooling_reason: str | None = None
    halted_reason: str | None = None
    quality: str | None = None
    tier: int | None = None
    own_rate: str | None = None
    created_at: str = ""
    updated_at: str = ""

    @property
    def slowed(self) -> bool:
        """Whether the number's quality is low: then it sends at half its pace."""
        return self.quality in condition.LOW

    @property
    def people(self) -> int | None:
        """How many in 24 hours: what somebody named, else the portfolio's tier."""
        return self.tier if self.daily_cap is None else self.daily_cap


GET = """
select id, name, provider, settings, secrets, rate, daily_cap, ramp, first_used_at,
       cooling_until, cooling_reason, halted_reason, quality, tier, own_rate, created_at, updated_at
  from accounts where name = :name
"""

EVERY = """
select id, name, provider, settings, secrets, rate, daily_cap, ramp, first_used_at,
       cooling_until, cooling_reason, halted_reason, quality, tier, own_rate, created_at, updated_at
  from accounts order by name
"""

NAMES = "select name from accounts order by name"

ADD = """
insert into accounts (name, provider, settings, secrets, rate, daily_cap, ramp,
                      created_at, updated_at)
values (:name, :provider, :settings, :secrets, :rate, :daily_cap, :ramp, :now, :now)
"""

EDIT = """
update accounts
   set name = :name, settings = :settings, secrets = :secrets, rate = :rate,
       daily_cap = :daily_cap, ramp = :ramp, updated_at = :now
 where id = :id
"""

REMOVE = "delete from accounts where id = :id"

CAMPAIGNS = """
select name from campaigns where account_id = :id and test_of is null order by number desc limit 4
"""

FORGET_TESTS = "delete from campaigns where account_id = :id and test_of is not null"


def add(db: Connection, account: Account, *, now: datetime) -> tuple[Account, bool]:
    """Add `account`; the row and whether it is new. The same one again changes nothing.

    Refused where the name stands for something else; UsageError for a name that cannot be.
    """
    _check_name(account.name)
    with immediate(db):
        old = _find(db, account.name)
        if old is None:
            db.execute(ADD, _row(account, now))
            return get(db, account.name), True
    if said_of(old) != said_of(account):
        raise Refused(
            f"there is an account {account.name!r} with other settings",
            hint=f"`wabcast account edit {account.name}` changes it, `account show` tells it",
        )
    return old, False


def every(db: Connection) -> Iterator[Account]:
    """All accounts, by name."""
    return map(_account, db.execute(EVERY))


def get(db: Connection, name: str) -> Account:
    """The account called `name`; NotFound tells a name that is near."""
    found = _find(db, name)
    if found is None:
        names = [row["name"] for row in db.execute(NAMES)]
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`wabcast account list` shows them all"
        raise NotFound(f"no account {name!r}", hint=hint if names else "`wabcast account add`")
    return found


def edit(
    db: Connection, name: str, change: Callable[[Account], Account], *, now: datetime
) -> tuple[Account, bool]:
    """Give the account what `change` makes of it; the row and whether anything changed.

    The provider of an account stays: its campaigns speak of that one's ids.
    """
    with immediate(db):
        old = get(db, name)
        new = replace(change(old), id=old.id, provider=old.provider)
        if said_of(new) == said_of(old) and new.name == old.name:
            return old, False
        if new.name != old.name:
            _check_name(new.name)
        if new.name != old.name and _find(db, new.name):
            raise Refused(f"there is already an account {new.name!r}", hint="choose another name")
        db.execute(EDIT, _row(new, now) | {"id": old.id})
        if dict(new.settings) != dict(old.settings):
            condition.forget(db, old.id)
        return get(db, new.name), True


def remove(db: Connection, name: str) -> None:
    """Remove the account; Refused while a campaign names it, finished ones included."""
    with immediate(db):
        account = get(db, name)
        campaigns = [row["name"] for row in db.execute(CAMPAIGNS, {"id": account.id})]
        if campaigns:
            shown = ", ".join(campaigns[:3]) + (", ..." if len(campaigns) > 3 else "")
            raise Refused(
                f"account {name!r} has campaigns, whose records would go with it: {shown}",
                hint="delete them first with `wabcast campaign delete NAME`, or keep it",
            )
        db.execute(FORGET_TESTS, {"id": account.id})
        db.execute(REMOVE, {"id": account.id})


def _find(db: Connection, name: str) -> Account | None:
    row = db.execute(GET, {"name": name}).fetchone()
    return None if row is None else _account(row)


def _account(row: Row) -> Account:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118  # a Row iterates its values
    values["settings"] = json.loads(values["settings"])
    values["secrets"] = json.loads(values["secrets"])
    return Account(**values)


def said_of(account: Account) -> tuple[object, ...]:
    """What a person said of the account."""
    return (
        account.provider,
        dict(account.settings),
        dict(account.secrets),
        account.rate,
        account.daily_cap,
        account.ramp,
    )


def _row(account: Account, now: datetime) -> dict[str, object]:
    return {
        "name": account.name,
        "provider": account.provider,
        "settings": json.dumps(dict(account.settings), ensure_ascii=False, sort_keys=True),
        "secrets": json.dumps(dict(account.secrets), ensure_ascii=False, sort_keys=True),
        "rate": account.rate,
        "daily_cap": account.daily_cap,
        "ramp": account.ramp,
        "now": clock.text(now),
    }


_ODD = re.compile(r"[^\w .@+():-]")


def _check_name(name: str) -> None:
    """A name is part of an address, of lines for a shell and of pages: no markup of any."""
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise UsageError("an account's name is one line of text", hint="as in `shop`")
    if len(name) > LONGEST_NAME or name.startswith("-"):
        raise UsageError(
            f"not a name for an account: {name[:20]!r}",
            hint=f"up to {LONGEST_NAME} characters that do not begin with a dash",
        )
    if odd := _ODD.search(name):
        raise UsageError(
            f"an account's name has no {odd[0]!r}",
            hint="letters, digits, spaces and . _ - @ + ( ) : as in `shop`",
        )
