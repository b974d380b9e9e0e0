"""Starting, resuming and ending runs: the lock, the lifecycle, and one engine a campaign.

A `Session` is one process at work: it shares one recorder, and one gate and provider an
account, among the campaigns that it carries side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast import clone_guard, content, due, health, locks, wiring
from wabcast.campaign import LIFECYCLE, TWICE, Campaign, CampaignStatus, refusal, refused
from wabcast.clock import Clock, text
from wabcast.engine import Run
from wabcast.errors import BadContent, Busy, Exit, Refused, StoreError, WabcastError
from wabcast.gate import AccountGate
from wabcast.ledger import SqliteLedger
from wabcast.pacing import Rate
from wabcast.plan import PATIENCE, Ending
from wabcast.plan import Say as SayTo
from wabcast.recorder import Recorder
from wabcast.store import (
    accounts,
    campaigns,
    condition,
    database,
    decisions,
    figures,
    halts,
    ledger,
    pieces,
    preflight,
    reach,
    readiness,
    reports,
)
from wabcast.store.release_log import ReleaseLog

if TYPE_CHECKING:
    from wabcast.providers.base import Provider
    from wabcast.store.database import Connection
    from wabcast.store.preflight import Snapshot
    from wabcast.webhooks import Webhooks

Say = Callable[[str], None]
"""Tells the person at the terminal something worth knowing."""


TRIES = 5
"""How often a campaign is checked that others change meanwhile; then it is refused."""

CONNECTIONS = 1000
"""Of one account at most. The campaigns' own `--concurrency` is what bounds them."""


@dataclass(frozen=True, slots=True)
class _Sender:
    """A provider, the account it was built for, and the task that asks how its number is."""

    account: accounts.Account
    provider: Provider
    watch: asyncio.Task[None]


@dataclass(slots=True)
class Session:
    """What the campaigns of one process share."""

    path: Path
    clock: Clock
    attended: bool = True
    patience: timedelta = PATIENCE
    trace: bool = False
    say: Say = lambda _text: None
    runs: dict[int, Run] = field(default_factory=dict)
    _recorder: Recorder | None = None
    _gates: dict[int, AccountGate] = field(default_factory=dict)
    _senders: dict[int, _Sender] = field(default_factory=dict)
    _retired: list[_Sender] = field(default_factory=list)
    _webhooks: list[Webhooks] = field(default_factory=list)
    _watches: list[asyncio.Task[None]] = field(default_factory=list)
    _stopped: tuple[str, str | None] | None = None

    async def __aenter__(self) -> Session:
        db = database.connect(self.path)
        try:
            clone_guard.refuse(db)
        finally:
            db.close()
        self._recorder = Recorder(self.path)
        self._recorder.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for watch in self._watches:
            watch.cancel()
        if self._watches:
            await asyncio.wait(self._watches)
        for sender in (*self._senders.values(), *self._retired):
            await sender.provider.aclose()
        for webhooks in self._webhooks:
            await webhooks.aclose()
        if self._recorder is not None:
            await self._recorder.stop()
        for gate in self._gates.values():
            gate.close()

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("a session is entered before it is used")
        return self._recorder

    def stop(self, reason: str, resume_at: str | None = None) -> None:
        """Claim no more, anywhere; what is on the wire is finished and recorded.

        With `resume_at` (UTC text) the next `wabcast run` from then on resumes; else a person.
        """
        self._stopped = reason, resume_at
        for run in self.runs.values():
            run.stop(reason, resume_at)

    def abandon(self) -> None:
        """Leave at once: what is on the wire is in doubt, the campaigns are paused."""
        db = database.connect(self.path, busy_seconds=2.0)
        at = text(self.clock.micros())
        with database.immediate(db):
            for number, run in self.runs.items():
                campaign = campaigns.by_id(db, run.plan.campaign_id)
                ledger.take_over(db, number, "")
                campaigns.move(db, campaign, "pause", at=at, reason=TWICE)
        db.close()

    async def carry(self, campaign: Campaign, verb: str, *, as_shown: bool = False) -> Ending:
        """`start` or `resume` a campaign and carry it to its end. Raises what refuses it.

        As `run` it is carried only if it is due; Busy where that is over when its turn comes.
        `as_shown`: only if nobody has changed it since `campaign` was read.
        """
        with locks.held(self.path, campaign):
            db = database.connect(self.path)
            try:
                clone_guard.refuse(db)  # the file may have been put back since the session began
                run_id = self.clock.new_run_id()
                taken, provider, say = await self._take(
                    db, campaign, verb, run_id, as_shown=as_shown
                )
            finally:
                db.close()
            return await self._run(taken.campaign, run_id, taken.account, provider, say)

    async def _take(
        self, db: Connection, campaign: Campaign, wanted: str, run_id: str, *, as_shown: bool
    ) -> tuple[Snapshot, Provider, SayTo]:
        """Check the campaign and take what was checked: what has changed since is checked anew."""
        unasked = wanted == due.RUN
        for _ in range(TRIES):
            now = campaigns.by_id(db, campaign.id)
            verb = self._verb(now, wanted)
            account = accounts.get(db, now.account)
            provider = await self._provider(account)
            notes = await content.sync_templates(db, now, provider, self.clock)
            with figures.moment(db):
                seen = preflight.snapshot(db, now)
                loaded = replace(content.load(db, seen.campaign), notes=notes)
            if as_shown and seen.campaign.revision != campaign.revision:
                raise Refused(
                    f"{seen.campaign.name} was changed after it was shown to you",
                    hint="nothing was sent; the same command shows it as it is now",
                )
            if accounts.said_of(seen.account) != accounts.said_of(account):
                continue
            seen, say = await self._ready(provider, seen, loaded, verb, db, unasked=unasked)
            taken = self._claim(db, seen, verb, run_id, unasked=unasked)
            if taken is not None:
                return taken, provider, say
        raise Refused(
            f"{campaign.name} was changed again each time it had been checked",
            hint="nothing was sent; the same command again, when nobody is changing it",
        )

    async def _ready(
        self,
        provider: Provider,
        seen: Snapshot,
        loaded: content.Loaded,
        verb: str,
        db: Connection,
        *,
        unasked: bool,
    ) -> tuple[Snapshot, SayTo]:
        """Refuse what cannot go well, before anything is sent; what is said to each person.

        The snapshot comes back with what was just heard of the account.
        """
        content.check(loaded)
        if verb == "start" or seen.campaign.started_at is None:
            await self._check_everybody(provider, seen.campaign, loaded, db)
        red_since = await self._check_account(
            provider, seen.account, seen.campaign, db, unasked=unasked
        )
        say = content.renderer(await content.upload_all(loaded, provider, db, self.clock))
        return replace(seen, red_since=red_since), say

    async def _check_everybody(
        self, provider: Provider, campaign: Campaign, loaded: content.Loaded, db: Connection
    ) -> None:
        if lost := await content.unreachable(loaded, provider):
            raise BadContent("; ".join(lost), hint="nothing was sent; mend the link and try again")
        # In a thread, with its own connection: other campaigns of this process go on meanwhile.
        problems = await asyncio.to_thread(
            _unsayable, self.path, campaign, content.renderer(loaded)
        )
        if problems.refuses(campaign.missing):
            raise problems.refusal(campaign.name)
        if problems:
            self.say(f"{problems.told(campaign.name)}; the others get theirs")
        for warning in content.warnings(db, loaded):
            self.say(warning)

    async def _check_account(
        self,
        provider: Provider,
        account: accounts.Account,
        campaign: Campaign,
        db: Connection,
        *,
        unasked: bool,
    ) -> str | None:
        """Refuse an account that cannot send; since when it is RED, if it is."""
        told = await provider.check()
        with database.immediate(db):
            fell = health.heed(db, account, told, at=text(self.clock.micros()))
            since = condition.red_since(db, account.id)
        # What nobody asked for since then waits for a person: `run` sets aside what is refused.
        if fell or (unasked and since is not None and campaign.updated_at < since):
            raise Refused(
                f"{account.name}: {halts.FELL}",
                hint="it goes all the same, at half its pace: "
                f"wabcast campaign {'start' if campaign.status == 'draft' else 'resume'} "
                f"'{campaign.name}'",
            )
        if told.ok:
            for problem in told.problems:
                self.say(f"{account.name}: {problem}")
            return since
        why = "; ".join(told.problems) or told.status
        if not health.is_final(told):
            self.say(f"{account.name} does not say how it is ({why}); trying all the same")
            return since
        raise Refused(
            f"WhatsApp account is not connected: {account.name}: {why}",
            hint=f"look closer: wabcast account check {account.name}",
        )

    def _verb(self, campaign: Campaign, verb: str) -> str:
        """What `start` or `resume` means now: a running one whose lock is free has a dead run."""
        if verb == due.RUN:
            wanted = due.verb(campaign, self.clock.now())
            if wanted is None:
                raise Busy(
                    f"{campaign.name} is not due any more",
                    hint="another process, or a person, was a moment earlier",
                )
            return wanted
        if campaign.recurring:
            raise Refused(
                f"{campaign.name} is sent as a copy each time, and never itself",
                hint=f"to send it now too: wabcast campaign duplicate '{campaign.name}'",
            )
        if campaign.status is CampaignStatus.RUNNING:
            return "take over"
        if campaign.status not in LIFECYCLE[verb][0] or not campaign.complete:
            raise refused(verb, campaign)
        return verb

    def _claim(
        self, db: Connection, seen: Snapshot, verb: str, run_id: str, *, unasked: bool
    ) -> Snapshot | None:
        """Take what was checked, as it is by now; None where that is something else.

        What a dead run left on the wire is in doubt from now on.
        """
        at = text(self.clock.micros())
        with database.immediate(db):
            now = preflight.snapshot(db, seen.campaign)
            if not preflight.unchanged(seen, now):
                return None
            campaign = now.campaign
            if unasked and self._verb(campaign, due.RUN) != verb:
                raise refusal("start", campaign.name, CampaignStatus.RUNNING)
            if not campaigns.move(db, campaign, verb, at=at, run=run_id):
                raise refused(verb, campaign)
            doubtful = ledger.take_over(db, campaign.number, run_id)
            reach.mend(db, campaign.account_id, self.clock.now())
            now = replace(now, campaign=campaigns.by_id(db, campaign.id))
        if doubtful:
            self.say(
                f"{doubtful} of {campaign.name} were on the wire when the last run died: they are "
                "in doubt and are not sent again. A receipt may settle them, or you: "
                f"wabcast campaign settle '{campaign.name}' --as sent|failed|pending"
            )
        return now

    async def _run(
        self,
        campaign: Campaign,
        run_id: str,
        account: accounts.Account,
        provider: Provider,
        say: SayTo,
    ) -> Ending:
        recorder, clock = self.recorder, self.clock
        store = SqliteLedger(campaign, run_id, recorder, self.path, clock, trace=self.trace)
        gate = self._gates.get(account.id)
        if gate is None:
            gate = self._gates[account.id] = AccountGate(
                account.id,
                ReleaseLog(locks.releases_of(self.path, account.id), clock),
                recorder,
                clock,
                usual=Rate.parse(provider.default_rate or "max"),
            )
        run = Run(
            wiring.plan_for(campaign, attended=self.attended, patience=self.patience),
            ledger=store,
            gate=wiring.gate_for(campaign, gate, recorder, clock),
            provider=provider,
            say=say,
            clock=clock,
        )
        self.runs[campaign.number] = run
        try:
            if self._stopped is not None:
                run.stop(*self._stopped)
            ending = await run.carry()
            await self._settle_receipts(provider)
        except (WabcastError, database.DatabaseError):
            raise
        except Exception as exc:
            await self._give_up(campaign, run_id, f"{type(exc).__name__}: {exc}")
            raise
        finally:
            await store.aclose()
            del self.runs[campaign.number]
            with suppress(StoreError):  # whoever comes next sees that the lock is free
                await recorder.write(lambda db: ledger.let_go(db, campaign.number, run_id))
        return self._judge(campaign, ending)

    async def _give_up(self, campaign: Campaign, run_id: str, why: str) -> None:
        """A bug of ours, which a resume would only meet again: the campaign has failed."""
        at = text(self.clock.micros())

        def write(db: Connection) -> None:
            ledger.take_over(db, campaign.number, "")
            campaigns.move(db, campaign, "fail", at=at, fence=run_id, reason=f"a bug: {why}")

        def skip(db: Connection) -> int:
            return decisions.skip_some(db, campaign, CampaignStatus.FAILED, pieces.FIRST)

        with suppress(StoreError):  # `wabcast run` goes on with what is left
            await self.recorder.write(write, must=True)
            while await self.recorder.write(skip, must=True) == pieces.FIRST:
                await self.clock.sleep(pieces.GAP)

    async def _settle_receipts(self, provider: Provider) -> None:
        """The played WhatsApp ends with us: have what it owes now."""
        drain = getattr(provider, "drain", None)
        if drain is not None:
            await drain()
        for webhooks in self._webhooks:
            await webhooks.settled()

    def _judge(self, campaign: Campaign, ending: Ending) -> Ending:
        """Completed, but not for everybody, is another exit code."""
        if ending.exit is not Exit.DONE:
            return ending
        db = database.connect(self.path)
        try:
            campaign = campaigns.by_id(db, campaign.id)
            faults = reports.faults(db, campaign)
        finally:
            db.close()
        return Ending(Exit.SOME_FAILED, ending.status, ending.reason) if faults else ending

    async def _provider(self, account: accounts.Account) -> Provider:
        """The account's, shared; another one where a person has changed the account since."""
        sender = self._senders.get(account.id)
        if sender is not None:
            if accounts.said_of(sender.account) == accounts.said_of(account):
                return sender.provider
            sender.watch.cancel()
            self._retired.append(sender)  # others of this process may still send by it
        provider = wiring.provider_for(account, concurrency=CONNECTIONS)
        watch = asyncio.create_task(
            health.watch(account, provider, self.recorder, self.clock, self.say)
        )
        self._senders[account.id] = _Sender(account, provider, watch)
        self._watches.append(watch)
        webhooks = wiring.hear(provider, account, self.path, self.clock)
        if webhooks is not None:
            self._webhooks.append(webhooks)
        return provider


def _unsayable(path: Path, campaign: Campaign, say: SayTo) -> readiness.Problems:
    with closing(database.connect(path)) as db:
        return readiness.unsayable(db, campaign, say)


async def carry_all(
    session: Session,
    chosen: list[tuple[Campaign, str]],
    *,
    parallel: int = 5,
    as_shown: bool = False,
    explain: Callable[[Exception], WabcastError],
    failed: Callable[[WabcastError], object],
) -> dict[int, Ending]:
    """Carry several side by side, at most `parallel`. One that cannot be carried, be it for a bug
    of ours, does not cut off the ones beside it; `explain` finds the words."""
    turn = asyncio.Semaphore(parallel)
    endings: dict[int, Ending] = {}

    async def one(campaign: Campaign, verb: str) -> None:
        async with turn:
            try:
                endings[campaign.number] = await session.carry(campaign, verb, as_shown=as_shown)
            except Exception as exc:  # noqa: BLE001  # the others go on
                refused = explain(exc)
                failed(refused)
                endings[campaign.number] = Ending(
                    refused.exit_code, campaign.status, refused.message
                )

    async with asyncio.TaskGroup() as group:
        for campaign, verb in chosen:
            group.create_task(one(campaign, verb))
    return endings
