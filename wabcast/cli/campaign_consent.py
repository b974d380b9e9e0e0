"""What `start` and `resume` say before anything leaves, and the question that they ask.

Invariant: nothing leaves by these commands without `--yes` or an answer from a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wabcast.cli import output
from wabcast.errors import WabcastError

if TYPE_CHECKING:
    from wabcast.campaign import Campaign
    from wabcast.store.database import Connection


def ask(chosen: Sequence[Campaign], verb: str, *, yes: bool) -> None:
    """Say what each campaign is about to send, then return if the person agrees to all.

    A campaign that `verb` will refuse is not asked about: the refusal says why.
    """
    tell = output.note if yes or not output.attended() else output.say
    for campaign in chosen:
        if _will_be_refused(campaign, verb):
            continue
        if campaign.recurring:
            question = f"Send {campaign.name} again at each of its times?"
        else:
            _describe(campaign, tell)
            question = (
                f"Send {campaign.name} to {campaign.pending:,} people "
                f"from account {campaign.account}?"
            )
        output.confirm(question, yes=yes)


def _will_be_refused(campaign: Campaign, verb: str) -> bool:
    from wabcast import locks
    from wabcast.campaign import LIFECYCLE, CampaignStatus

    if campaign.status is CampaignStatus.RUNNING:
        return locks.is_held(output.options().db, campaign)
    if campaign.recurring and verb == "start":
        return True
    return campaign.status not in LIFECYCLE[verb][0] or not campaign.complete


def _describe(campaign: Campaign, tell: Callable[[str], None]) -> None:
    """To whom, from which account, what, at what rate, until when."""
    from wabcast.audience import Audience
    from wabcast.cli.campaign_check import how_long
    from wabcast.store import accounts

    with output.open_store() as db:
        account = accounts.get(db, campaign.account)
        example = _example(db, campaign)
    tell(output.safe(campaign.name))
    audience = Audience.from_json(campaign.audience).describe()
    people = f"{campaign.pending:,} of {campaign.total_recipients:,} people"
    told = [
        ("to", f"{people}, chosen from {audience}"),
        ("from", f"account {account.name} ({account.provider})"),
        ("rate", _rate(campaign)),
        ("takes", how_long(campaign, account)),
        *example,
    ]
    for label, text in told:
        for number, line in enumerate(text.split("\n")):
            tell(f"  {label if number == 0 else '':<6}{output.safe(line)}".rstrip())


def _rate(campaign: Campaign) -> str:
    pauses = (
        f", {campaign.batch_delay / 1000:g} s of pause after every {campaign.batch_size:,}"
        if campaign.batch_delay
        else ""
    )
    rate = "as fast as the account may" if campaign.rate == "max" else campaign.rate
    return rate + pauses


def _example(db: Connection, campaign: Campaign) -> list[tuple[str, str]]:
    """The message of the first person who is owed one, as it would go."""
    from wabcast import content, message
    from wabcast.delivery import Unsayable
    from wabcast.store import ledger

    page = ledger.due(db, campaign.number, now="9999", after=("", 0), limit=1)
    if not page:
        return []
    try:
        body = content.renderer(content.load(db, campaign))(page[0])
    except (WabcastError, Unsayable) as exc:
        # What stands in the way is told in full by the checks before the first message.
        return [("what", f"cannot be shown for {page[0].phone}: {exc}")]
    return [("what", f"to {page[0].phone}:\n{message.summary(body)}")]
