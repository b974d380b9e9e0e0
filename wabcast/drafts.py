"""Making and changing campaigns: what a person says of one, checked, and put into the file.

The command line and REST both come through here. Whatever is wrong is refused before anything
is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wabcast import content, locks, template
from wabcast.audience import Audience
from wabcast.campaign import Campaign, Priority
from wabcast.canary import Canary
from wabcast.clock import Clock, parse, text
from wabcast.errors import Busy, Refused, UsageError
from wabcast.pacing import Rate
from wabcast.store import accounts, campaigns, recipients
from wabcast.store.database import path_of

if TYPE_CHECKING:
    from wabcast.providers.base import Manners
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection
    from wabcast.store.recipients import Choice

DEFAULT_RATE = "20/m"
LONGEST_NAME = 200

TRIES = 5
"""How often an audience is looked up that others edit meanwhile."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What was said of a campaign; None: nothing was. Durations in milliseconds, times UTC.

    `content` is a Cloud API message object with holes in its strings; `canary` as `str` makes it
    of one, empty for none. What came from afar is not
    `trusted`: it may neither loop nor name a local file.
    """

    account: str | None = None
    content: Mapping[str, Any] | None = None
    trusted: bool | None = None
    audience: Audience | None = None
    variables: Mapping[str, str] | None = None
    missing: str | None = None
    rate: str | None = None
    batch_size: int | None = None
    batch_delay: int | None = None
    concurrency: int | None = None
    jitter: str | None = None
    priority: str | None = None
    windows: str | None = None
    recipient_timezone: bool | None = None
    timezone: str | None = None
    not_after: datetime | None = None
    canary: str | None = None
    description: str | None = None


DEFAULTS: Mapping[str, Any] = {
    "trusted": True,
    "variables": {},
    "missing": "refuse",
    "rate": DEFAULT_RATE,
    "batch_size": 100,
    "batch_delay": 5000,
    "concurrency": 10,
    "jitter": "0ms",
    "priority": "normal",
    "windows": None,
    "recipient_timezone": False,
    "timezone": None,
    "not_after": None,
    "canary": None,
    "description": None,
}


def create(db: Connection, name: str, draft: Draft, clock: Clock) -> Campaign:
    """A new draft with its recipients; nothing is sent."""
    _check_name(name)
    if draft.account is None:
        raise UsageError("a campaign needs an account", hint="--account NAME")
    if draft.content is None:
        raise UsageError("a campaign needs something to say", hint="--text 'Hello {{firstName}}'")
    if draft.audience is None:
        raise UsageError(
            "a campaign needs somebody to say it to",
            hint="--all, --tag T, --segment S, --where EXPR or --phones FILE",
        )
    run, audience = clock.new_run_id(), draft.audience

    def begins() -> Campaign:
        row = _new_row(db, name, draft, clock)
        made = campaigns.add(db, row, audience, run=run, at=text(clock.micros()))
        content.check(content.load(db, made))
        return made

    accounts.get(db, draft.account)  # its absence is told before that of an audience
    with recipients.chosen(db, audience) as choice:
        _clear_leftover(db, name, clock)
        return _put_in(db, choice, begins, run, clock)


def _new_row(db: Connection, name: str, draft: Draft, clock: Clock) -> dict[str, Any]:
    account = accounts.get(db, draft.account or "")
    manners = _manners(account, draft.content or {})
    usual = {"jitter": manners.jitter} if manners.jitter else {}
    row = _columns({**DEFAULTS, **usual, **_given(draft)})
    _check(row)
    row.pop("audience")
    return row | {
        "id": clock.new_id(),
        "name": name,
        "account_id": account.id,
        "content": _json(row["content"]),
        "variables": _json(row["variables"]),
    }


def _put_in(
    db: Connection, choice: Choice, begins: Callable[[], Campaign], run: str, clock: Clock
) -> Campaign:
    done = recipients.put_in(db, choice, begins, run=run, clock=clock, hold=holding(db))
    assert done is not None  # noqa: S101  # `begins` returns one
    return done


def holding(db: Connection) -> recipients.Hold:
    """How a campaign is kept from others while its recipients come, or go, piece by piece."""
    path = path_of(db)

    def hold(campaign: Campaign) -> AbstractContextManager[None]:
        if locks.is_held(path, campaign):
            raise _at_work(campaign)
        return locks.held(path, campaign)

    return hold


def _at_work(campaign: Campaign) -> Busy:
    return Busy(
        f"another process is at work on {campaign.name}",
        hint=f"look at it: wabcast campaign show '{campaign.name}'",
    )


def _clear_leftover(db: Connection, name: str, clock: Clock) -> None:
    """What an interrupted creation of this name has left makes room for the next."""
    found = campaigns.called(db, name)
    if found is None or not found.leftover:
        return
    if locks.is_held(path_of(db), found):
        raise _at_work(found)
    delete(db, found, clock, leftover=True)


def refresh(db: Connection, campaign: Campaign, clock: Clock) -> Campaign:
    """Compute the recipients of a draft or scheduled campaign afresh.

    It also goes on with what was interrupted: a creation, a refresh, an edit of the audience.
    """
    run = clock.new_run_id()
    for _ in range(TRIES):
        meant = campaigns.by_id(db, campaign.id).audience

        def begins(meant: Mapping[str, Any] = meant) -> Campaign | None:
            if campaigns.by_id(db, campaign.id).audience != meant:
                return None
            return recipients.begin(db, campaign, run=run, at=text(clock.micros()))

        with recipients.chosen(db, Audience.from_json(meant)) as choice:
            done = recipients.put_in(db, choice, begins, run=run, clock=clock, hold=holding(db))
        if done is not None:
            return done
    raise _edited_again(campaign)


def _edited_again(campaign: Campaign) -> Busy:
    return Busy(
        f"the audience of {campaign.name} was edited again each time it had been looked up",
        hint="the same command again, when nobody is changing it",
    )


def delete(db: Connection, campaign: Campaign, clock: Clock, *, leftover: bool = False) -> None:
    """Forget a campaign, and who got it. Refused while it runs.

    As a `leftover` only one whose creation was interrupted.
    """
    path = path_of(db)
    recipients.remove(
        db,
        campaign,
        is_held=lambda now: locks.is_held(path, now),
        clock=clock,
        hold=holding(db),
        leftover=leftover,
    )


def edit(
    db: Connection, campaign: Campaign, name: str | None, draft: Draft, clock: Clock
) -> Campaign:
    """Change what was said, and nothing else, of the campaign as it is by then.

    A new audience is computed at once (drafts and scheduled ones).
    """
    changes = _columns(_given(draft))
    if "content" in changes:
        changes.setdefault("trusted", 1)
    if name is not None:
        _check_name(name)
        changes["name"] = name
    if not changes and draft.account is None:
        raise UsageError("nothing to change", hint="wabcast campaign edit --help")

    def change(old: Campaign) -> Campaign:
        new = replace(old, **changes)
        if draft.account is not None:
            new = _from_account(new, accounts.get(db, draft.account))
        if draft.account is not None or draft.content is not None:
            _manners(accounts.get(db, new.account), new.content)
        _check({field.name: getattr(new, field.name) for field in fields(new)})
        content.check(content.load(db, new))
        return new

    if draft.audience is None:
        return campaigns.edit(db, campaign, change, at=text(clock.micros()))
    run = clock.new_run_id()

    def begins() -> Campaign:
        return recipients.begin(db, campaign, change, run=run, at=text(clock.micros()))

    with recipients.chosen(db, draft.audience) as choice:
        return _put_in(db, choice, begins, run, clock)


def _from_account(campaign: Campaign, account: Account) -> Campaign:
    """The campaign on another account. Refused once anything may have left: receipts, replies
    and doubts are found by the account that the message left from."""
    if account.id != campaign.account_id and campaign.has_sent:
        raise Refused(
            f"{campaign.name} has sent from {campaign.account}; the account stays",
            hint=f"a copy can have another: wabcast campaign duplicate '{campaign.name}'",
        )
    return replace(campaign, account_id=account.id, account=account.name)


def _manners(account: Account, said: Mapping[str, Any]) -> Manners:
    """What the account's provider asks of us; Refused where it cannot say such a thing."""
    from wabcast import wiring

    manners = wiring.manners(account.provider)
    if manners.carries is not None and said.get("type") not in manners.carries:
        raise Refused(
            f"a {account.provider} account cannot send {said.get('type')} messages",
            hint=f"it can send {', '.join(sorted(manners.carries))}",
        )
    return manners


def duplicate(db: Connection, campaign: Campaign, name: str | None, clock: Clock) -> Campaign:
    """A draft with the same content, throttle and audience, its recipients computed afresh.

    Neither the schedule nor `not_after` is copied. Its name is `NAME (Copy)`, then
    `NAME (Copy 2)` and so on.
    """
    if name is not None:
        _check_name(name)
        _clear_leftover(db, name, clock)
    run = clock.new_run_id()
    for _ in range(TRIES):
        meant = campaigns.by_id(db, campaign.id).audience

        def begins(meant: Mapping[str, Any] = meant) -> Campaign | None:
            now = campaigns.by_id(db, campaign.id)
            if now.audience != meant:
                return None
            called = name or _copy_name(db, now.name)
            return copy(db, replace(now, not_after=None), called, clock, run=run)

        with recipients.chosen(db, Audience.from_json(meant)) as choice:
            done = recipients.put_in(db, choice, begins, run=run, clock=clock, hold=holding(db))
        if done is not None:
            return done
    raise _edited_again(campaign)


def copy(db: Connection, campaign: Campaign, name: str, clock: Clock, *, run: str) -> Campaign:
    """A draft like `campaign` under a new name, without its schedule, for the process `run` to
    put its recipients in. Inside the caller's transaction."""
    row = {field.name: getattr(campaign, field.name) for field in fields(campaign)}
    row |= {"id": clock.new_id(), "name": name, "content": _json(row["content"])}
    row |= {"variables": _json(row["variables"])}
    audience = Audience.from_json(campaign.audience)
    return campaigns.add(db, row, audience, run=run, at=text(clock.micros()))


def _copy_name(db: Connection, name: str) -> str:
    taken = {campaign.name for campaign in campaigns.listed(db)}
    copy, count = f"{name} (Copy)", 1
    while copy in taken:
        count += 1
        copy = f"{name} (Copy {count})"
    return copy


def _given(draft: Draft) -> dict[str, Any]:
    said = {field.name: getattr(draft, field.name) for field in fields(draft)}
    return {key: value for key, value in said.items() if value is not None and key != "account"}


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """As the columns have it."""
    if isinstance(row.get("audience"), Audience):
        row["audience"] = row["audience"].to_json()
    if isinstance(row.get("not_after"), datetime):
        row["not_after"] = text(row["not_after"])
    if row.get("canary") == "":
        row["canary"] = None
    for name in ("recipient_timezone", "trusted"):
        if name in row:
            row[name] = int(row[name])
    return row


def _check(row: Mapping[str, Any]) -> None:
    """Refuse what cannot be carried out."""
    from wabcast.times import known_zone
    from wabcast.windows import Window
    from wabcast.wiring import jitter_of

    Rate.parse(row["rate"])
    low, high = jitter_of(row["jitter"])
    if low > high:
        raise UsageError("--jitter ends before it begins", hint="as 10s, or 5s-15s")
    for option, least, most in (("batch_size", 1, 10**9), ("concurrency", 1, 1000)):
        if not least <= row[option] <= most:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} must be {least} to {most}, not {row[option]}")
    if row["missing"] not in set(template.Missing):
        raise UsageError(f"not a --missing: {row['missing']!r}", hint="refuse, skip or blank")
    if row["priority"] not in set(Priority):
        raise UsageError(f"not a --priority: {row['priority']!r}", hint="high, normal or low")
    if row["windows"]:
        Window.parse(row["windows"])
    if row["timezone"] and known_zone(row["timezone"]) is None:
        raise UsageError(f"no time zone called {row['timezone']!r}", hint="as Europe/Berlin")
    if row["recipient_timezone"] and not row["windows"]:
        raise UsageError(
            "--recipient-timezone says on whose clock a window is",
            hint="give the window too: --window 09:00-20:00",
        )
    if row["not_after"]:
        parse(row["not_after"])
    if row["canary"]:
        Canary.parse(row["canary"])


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise Refused(
            f"not a name for a campaign: {name!r}",
            hint=f"one line of at most {LONGEST_NAME} characters",
        )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
