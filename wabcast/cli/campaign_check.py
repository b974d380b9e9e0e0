"""Before a campaign starts: is it ready, how long will it take, how does one message look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING

from wabcast.cli import output
from wabcast.cli.campaign_app import Name, app
from wabcast.errors import Exit

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.content import Loaded
    from wabcast.providers.base import Health
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection
    from wabcast.store.readiness import Key, Problems

Page = tuple[int, int, int, int, dict[str, int], list[tuple[str, str]]]
"""The fields of `Problems`, as they go through a pipe."""

MANY = 20_000
"""Pending messages: so many are worth a process for each core."""


@app.verb("check", json=True, examples="wabcast campaign check spring && echo ready")
def check(name: Name) -> Exit:
    """Render and check every recipient and the account; sends nothing. 0 ready, 5 not."""
    return report_readiness(name)


def report_readiness(name: str) -> Exit:
    """Say whether a campaign could start now, how long it would take, and what binds."""
    from wabcast import health
    from wabcast.aside import cores
    from wabcast.cli.loop import run_loop
    from wabcast.clock import Clock, text
    from wabcast.store import accounts, campaigns, readiness

    with output.open_store() as db:
        campaign = campaigns.get(db, name)
        account = accounts.get(db, campaign.account)
        loaded, found = run_loop(_look(db, campaign, account))
        health.note(db, account, found.health, at=text(Clock().micros()))
        account = accounts.get(db, campaign.account)
        parts = readiness.shares(db, campaign, cores() if campaign.pending > MANY else 1)
    if not found.content:
        found.people = _everybody(campaign, loaded, parts)
    seconds, binds = limits(campaign, account)
    told = {
        "name": campaign.name,
        "ready": found.ready,
        "status": str(campaign.status),
        "recipients": campaign.total_recipients,
        "pending": campaign.pending,
        "content": found.content,
        "warnings": found.warnings,
        "problems": [{"phone": phone, "reason": reason} for phone, reason in found.people.examples],
        "problem_count": found.people.count,
        "reasons": dict(found.people.reasons.most_common(20)),
        "account": {
            "name": account.name,
            "ok": found.health.ok,
            "problems": list(found.health.problems),
        },
        "takes_seconds": round(seconds, 1),
        "limit": binds,
    }
    if output.options().json:
        output.emit(told)
    else:
        _print(campaign, account, found)
    return Exit.DONE if found.ready else Exit.REFUSED


@dataclass(slots=True)
class _Found:
    """What stands in the way: for everybody (`content`), for some people, of the account."""

    startable: bool
    missing: str
    content: list[str]
    warnings: list[str]
    people: Problems
    health: Health

    @property
    def ready(self) -> bool:
        told = self.startable and self.health.ok and not self.content
        return told and not self.people.refuses(self.missing)


async def _look(db: Connection, campaign: Campaign, account: Account) -> tuple[Loaded, _Found]:
    """All but the people; and what is to be said to them."""
    from wabcast import content, wiring
    from wabcast.campaign import FINISHED
    from wabcast.clock import Clock
    from wabcast.store import campaigns, readiness

    provider = wiring.provider_for(account)
    try:
        loaded = await content.refresh(db, campaign, provider, Clock())
        wrong = content.problems(loaded)
        if not campaign.complete:
            wrong.append(campaigns.PARTS[campaign.recipients_state])
        wrong += await content.unreachable(loaded, provider)
        return loaded, _Found(
            startable=campaign.status not in FINISHED,
            missing=campaign.missing,
            content=wrong,
            warnings=content.warnings(db, loaded),
            people=readiness.Problems(),
            health=await provider.check(),
        )
    finally:
        await provider.aclose()


def _everybody(campaign: Campaign, loaded: Loaded, parts: Sequence[tuple[Key, Key]]) -> Problems:
    """Render every pending message, each part in a process of its own where there are several."""
    from wabcast.aside import ahead
    from wabcast.store.readiness import Problems

    found = [Problems() for _ in parts]
    with ExitStack() as children:
        pages = [_pages(campaign, loaded, part) for part in parts]
        if len(pages) > 1:
            pages = [children.enter_context(ahead(page)) for page in pages]
        with output.progress("checking", campaign.pending) as bar:
            for turn in zip_longest(*pages):
                for problems, page in zip(found, turn, strict=True):
                    if page is not None:
                        checked, sayable, count, lacking, reasons, examples = page
                        more = Problems(checked, sayable, count, lacking, Counter(reasons))
                        problems.add(replace(more, examples=examples))
                        bar.advance(checked)
    whole = Problems()
    for problems in found:
        whole.add(problems)
    return whole


def _pages(campaign: Campaign, loaded: Loaded, part: tuple[Key, Key]) -> Iterator[Page]:
    from wabcast import content
    from wabcast.store import readiness

    with output.open_store() as db:
        say = content.renderer(loaded)
        for page in readiness.judged(db, campaign, say, after=part[0], until=part[1]):
            counts = page.checked, page.sayable, page.count, page.lacking
            yield *counts, dict(page.reasons), page.examples


def _print(campaign: Campaign, account: Account, found: _Found) -> None:
    output.line(f"{campaign.name}: {campaign.pending:,} people, {how_long(campaign, account)}")
    for problem in found.content:
        output.line(f"for everybody: {problem}")
    for warning in found.warnings:
        output.warn(warning)
    if found.people:
        fate = "they are skipped" if campaign.missing == "skip" else "they fail"
        if found.people.refuses(campaign.missing):
            fate = "the start is refused"
        output.line(f"{found.people.count:,} cannot be told ({fate}):")
        title = "" if found.people.count <= len(found.people.examples) else "the first of them"
        output.table(("phone", "reason"), found.people.examples, title=title)
    if not found.health.ok:
        output.line(f"account {account.name} cannot send: {found.health.status}")
    for problem in found.health.problems:
        output.line(f"  {problem}")
    if not found.startable:
        output.line(f"it is {campaign.status}")
    output.line("ready" if found.ready else "not ready")


def limits(campaign: Campaign, account: Account) -> tuple[float, str]:
    """How many seconds what is pending will take, a canary's hold too, and which limit binds."""
    seconds, binds = _pace(campaign, account)
    if campaign.canary is not None and not campaign.canary_judged:
        from wabcast.canary import Canary

        seconds += Canary.parse(campaign.canary).hold.total_seconds()
    return seconds, binds


def _pace(campaign: Campaign, account: Account) -> tuple[float, str]:
    from wabcast import wiring
    from wabcast.pacing import Rate, estimate

    usual = wiring.provider_class(account.provider).default_rate
    own = Rate.parse(campaign.rate)
    joint = Rate.parse(account.rate or account.own_rate or usual or "max")
    if account.slowed:
        own, joint = own.halved, joint.halved
    slower = 2 if account.slowed else 1
    delay = slower * timedelta(milliseconds=campaign.batch_delay)
    size = campaign.batch_size
    pending = campaign.pending
    mine = estimate(own, pending, batch_size=size, batch_delay=delay).total_seconds()
    theirs = estimate(joint, pending, batch_size=size, batch_delay=delay).total_seconds()
    pauses = delay.total_seconds() * (max(pending - 1, 0) // size)
    low, high = wiring.jitter_of(campaign.jitter)
    jitter = slower * (low + high) / 2 * pending
    seconds = max(mine, theirs, jitter + pauses)
    days, cap = _days(campaign, account)
    if days * 86_400 > seconds:
        return days * 86_400.0, cap
    if pauses * 2 > seconds:
        return seconds, f"the pause of {delay.total_seconds():g} s between batches of {size}"
    if jitter + pauses >= max(mine, theirs) and jitter:
        return seconds, f"the jitter of {campaign.jitter}"
    if theirs > mine:
        return seconds, f"the account's rate of {joint}"
    if own.unlimited:
        return seconds, "nothing but the provider"
    return seconds, f"the campaign's rate of {own}"


def _days(campaign: Campaign, account: Account) -> tuple[int, str]:
    """How many whole days the account's cap on people makes of it, and which cap that is. Of those
    who were reached today none is reckoned to free a place before the day is over."""
    from wabcast import ramp
    from wabcast.clock import Clock, parse
    from wabcast.store import reach

    if not campaign.pending or (account.people is None and account.ramp is None):
        return 0, ""
    now = Clock().now()
    with output.open_store() as db:
        reached = reach.people(db, account.id, now)
    cap = account.people
    if account.ramp is not None:
        warming = ramp.Ramp.parse(account.ramp)
        first = parse(account.first_used_at) if account.first_used_at else None
        caps = [
            warming.cap(cap, first or now, now + timedelta(days=day))
            for day in range(len(warming.steps) + 1)
        ]
        if caps[0] != cap:
            told = f"the account's ramp, at {caps[0]:,} people a day now"
            return ramp.days(campaign.pending, caps, reached), told
    assert cap is not None  # noqa: S101  # without one the ramp's last step holds for good
    told = "daily cap" if account.daily_cap is not None else "portfolio's tier"
    return ramp.days(campaign.pending, [cap], reached), f"the account's {told} of {cap:,} people"


def how_long(campaign: Campaign, account: Account | None = None) -> str:
    """`about 15 min (bound by the campaign's rate of 20/m), until 14:05`."""
    from wabcast.cli.bar import span
    from wabcast.clock import Clock
    from wabcast.store import accounts

    if account is None:
        with output.open_store() as db:
            account = accounts.get(db, campaign.account)
    seconds, binds = limits(campaign, account)
    until = (Clock().now() + timedelta(seconds=seconds)).astimezone(output.zone())
    text = f"about {span(seconds)} (bound by {binds}), until {until:%Y-%m-%d %H:%M}"
    if campaign.windows:
        text += f", only {campaign.windows}"
    return text
