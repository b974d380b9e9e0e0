"""Two people and the runs, on one file: each step of one between the steps of the others.

Whatever is read outside of a transaction is read at one rule (`look`, `start`, a page of the run)
and used at a later one. The laws are the invariants.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from pysqlite3.dbapi2 import Connection, Row
from two_people import (
    BUSY,
    DEAD,
    EDITS,
    GONE,
    GRACE,
    LEFT_BY_THE_DEAD,
    LOST,
    MEANWHILE,
    MOST_PROCESSES,
    OUTCOMES,
    OWED,
    PHONES,
    SELDOM,
    SLOW_DOWN,
    STOPPED,
    Killed,
    Process,
    Request,
    World,
)

from wabcast import control, drafts, due, locks, message
from wabcast.audience import EVERYBODY, Audience
from wabcast.campaign import EDITABLE, FINISHED, Campaign, CampaignStatus
from wabcast.clock import parse, text
from wabcast.contacts import Contact
from wabcast.delivery import Accepted, MessageStatus
from wabcast.drafts import Draft
from wabcast.errors import Busy, NotFound, Refused, UsageError
from wabcast.receipts import Receipt, Ref, Status
from wabcast.server import moves
from wabcast.store import accounts, campaigns, contacts, database, erasure, imports, receipts
from wabcast.store.accounts import Account
from wabcast.store.audits import audit
from wabcast.store.database import immediate
from wabcast.store.decisions import Chosen

PEOPLE = [f"+4915112345{number:02d}0" for number in range(5)]


class TwoPeople(RuleBasedStateMachine):
    """look · create · edit · refresh · schedule · unschedule · start · pause · resume · cancel ·
    retry · settle · delete · duplicate · erase · opt out · receipt · run · answer · crash"""

    looks = Bundle("looks")

    # -- the world

    @initialize(target=looks, begun=st.sampled_from(["draft", "held", "running", "running"]))
    def begin(self, begun: str) -> Any:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "w.db"
        self.world = World(path, self._has_left)
        self.played = self.world.played()
        self.played.__enter__()
        self.people = [database.connect(path), database.connect(path)]
        for db in self.people:
            db.execute("pragma synchronous = off")  # no power is cut in here
        self.clock = self.world.clock
        db = self.people[0]
        accounts.add(db, Account("shop", "sandbox"), now=self.clock.now())
        known = [Contact(phone, first_name=phone[-2:]) for phone in PEOPLE]
        imports.upsert(db, known, at=self.at)
        self.texts: dict[str, list[tuple[str, str]]] = {}
        """By campaign: each text that was accepted, and when."""
        self.accepted: dict[str, dict[str, Any]] = {}
        """By campaign: the other columns that a person has set, as they were accepted."""
        self.left_out: dict[str, set[str]] = defaultdict(set)
        self.asked: dict[str, set[str]] = {}
        """Who is being put back at this moment, piece by piece."""
        self.may_leave: dict[tuple[str, str], bool] = defaultdict(lambda: True)
        self.gone: dict[str, str] = {}
        """Who wants nothing any more, or is erased, and since when."""
        self.killed: set[str] = set()
        """Campaigns whose run or command was killed, and nobody has looked since."""
        self.version = 0
        campaign = self._create(db, "spring")
        if begun != "draft":
            self.world.begin(campaign, "start", held=begun == "held")
        return campaign

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()
            self.played.__exit__(None, None, None)
            for db in self.people:
                db.close()
            self.folder.cleanup()

    @property
    def at(self) -> str:
        return text(self.clock.micros())

    @property
    def db(self) -> Connection:
        return self.people[0]

    def _row(self, request: Request) -> Row | None:
        rows = self.db.execute("select * from campaign_messages where id = ?", (request.row,))
        found: Row | None = rows.fetchone()
        return found

    def _has_left(self, request: Request) -> None:
        """The laws of a request, at the moment at which it leaves."""
        campaign = campaigns.by_id(self.db, request.campaign)
        row = self._row(request)
        assert row is not None, "what has left stands in the ledger"
        assert row["status"] == "queued"
        assert row["attempts"] == request.attempt
        phone, intended, now = request.message.to, row["queued_at"], parse(request.at)
        key = (campaign.id, phone)
        asked = phone in self.asked.get(campaign.id, ())
        assert self.may_leave[key] or asked, f"{phone} may have it, and gets it again"
        self.may_leave[key] = False
        if campaign.status is not CampaignStatus.RUNNING:
            stopped = campaign.completed_at or campaign.paused_at or ""
            assert intended <= stopped, f"it left {campaign.status}"
            assert now - parse(stopped) <= GRACE, f"it left long after it was {campaign.status}"
        if phone in self.gone:
            assert intended <= self.gone[phone], f"{phone} wants nothing"
            assert now - parse(self.gone[phone]) <= GRACE, f"{phone} wants nothing, since long"
        assert phone not in self.left_out[campaign.id]
        said = request.message.body["text"]["body"]
        known = self.texts[campaign.id]
        before = [each for at, each in known if at <= intended][-1:]
        held = {f"{each} {phone[-2:]}" for each in before}
        held |= {f"{each} {phone[-2:]}" for at, each in known if at == intended}
        assert said in held, f"{said!r} left, {known} was accepted"

    # -- what people do

    def _person(
        self, db: Connection, campaign: Campaign, act: Callable[[], Any], meanwhile: str = ""
    ) -> Any:
        """What a person asked for, or the refusal; what they did not mean stays as it is.

        Large work goes in pieces, here of two: `meanwhile` is done between the first two.
        """
        others = "select id, revision, status from campaigns where id <> ?"
        before = {row["id"]: tuple(row) for row in db.execute(others, (campaign.id,))}
        alone = not meanwhile and not any(each.alive for each in self.world.processes)
        if meanwhile:
            self.clock.meanwhile = partial(self._meanwhile, meanwhile, campaign)
        try:
            told = act()
        except (Refused, Busy, NotFound, UsageError, Killed) as exc:
            told = exc
        self.clock.meanwhile = None
        for row in db.execute(others, (campaign.id,)):
            if alone and row["id"] in before:
                assert tuple(row) == before[row["id"]], "another campaign was changed"
        if isinstance(told, Killed):
            self.killed.add(campaign.id)
        return told

    def _meanwhile(self, what: str, campaign: Campaign) -> None:
        """What the other person does, or a run."""
        match what:
            case "start" if len(self.world.processes) < MOST_PROCESSES:
                self.world.begin(campaign, "start", held=False)
            case "edit":
                self._edit(campaign, 1, "text")
            case "opt out":
                self._opt_out(1, PEOPLE[0])
            case "answer":
                self._accept_one()
            case "crash":
                for process in self.world.processes[:1]:
                    self._crash(process, arrive=True)
            case "retry":
                self._put_back(campaign, 1, partial(self._retry, "all"))
            case "refresh":
                self._refresh(campaign, 1, PEOPLE[1])
            case "cancel":
                self._cancel(campaign, 1)
            case "die":
                raise Killed

    def _know(self) -> None:
        """What was begun by a command that died is there too."""
        for campaign in campaigns.listed(self.db):
            if campaign.id not in self.texts:
                said = campaign.content["text"]["body"].removesuffix(" {{ first_name }}")
                self.texts[campaign.id] = [(campaign.created_at, said)]
                self.accepted[campaign.id] = {}
            if not campaign.complete:
                audience = Audience.from_json(campaign.audience)
                self.left_out[campaign.id] = set(audience.exclude_phones)

    def _create(self, db: Connection, name: str) -> Campaign:
        self.version += 1
        draft = Draft(
            account="shop",
            content=message.text(f"v{self.version} {{{{ first_name }}}}"),
            audience=EVERYBODY,
            rate="max",
            batch_delay=0,
            concurrency=2,
        )
        campaign = drafts.create(db, name, draft, self.clock)
        self._know()
        return campaign

    @rule(target=looks, who=st.integers(0, 1), data=st.data(), die=SELDOM)
    def look(self, who: int, data: st.DataObject, *, die: bool) -> Any:
        """Read a campaign now, to act on it later; one that is gone is made anew."""
        db = self.people[who]
        there = campaigns.listed(db)
        whole = [campaign for campaign in there if not campaign.leftover]
        if all(campaign.name != "spring" for campaign in whole):
            self.clock.meanwhile = partial(self._meanwhile, "die", there[0]) if die else None
            with suppress(Killed, Busy):
                return self._create(db, "spring")
            self._know()
            return multiple()
        return data.draw(st.sampled_from(there))

    @rule(campaign=looks, who=st.integers(0, 1), what=st.sampled_from(EDITS))
    def edit(self, campaign: Campaign, who: int, what: str) -> None:
        self._edit(campaign, who, what)

    def _edit(self, campaign: Campaign, who: int, what: str) -> None:
        self.version += 1
        said = f"v{self.version}"
        change: dict[str, Any] = {"batch_size": self.version}
        if what == "text":
            change = {"content": message.text(said + " {{ first_name }}")}
        elif what == "description":
            change = {"description": said}
        db, before = self.people[who], self.at
        edit = partial(drafts.edit, db, campaign, None, Draft(**change), self.clock)
        now = self._person(db, campaign, edit)
        if isinstance(now, Campaign):
            assert now.status in EDITABLE
            if what == "text":
                self.texts[campaign.id].append((before, said))
            else:
                self.accepted[campaign.id] |= change

    @rule(
        campaign=looks,
        who=st.integers(0, 1),
        phone=st.sampled_from([None, *PEOPLE]),
        meanwhile=st.sampled_from(MEANWHILE),
    )
    def refresh(self, campaign: Campaign, who: int, phone: str | None, meanwhile: str) -> None:
        """The recipients anew; where a phone is named, for all but that one."""
        self._refresh(campaign, who, phone, meanwhile)

    def _refresh(
        self, campaign: Campaign, who: int, phone: str | None, meanwhile: str = ""
    ) -> None:
        db = self.people[who]
        ask = partial(drafts.refresh, db, campaign, self.clock)
        if phone is not None:
            draft = Draft(audience=EVERYBODY.without(phones=[phone]))
            ask = partial(drafts.edit, db, campaign, None, draft, self.clock)
        now = self._person(db, campaign, ask, meanwhile)
        if isinstance(now, Campaign) and now.complete and phone is not None:
            self.left_out[campaign.id] = set(Audience.from_json(now.audience).exclude_phones)
        self._know()

    @rule(
        campaign=looks,
        who=st.integers(0, 1),
        verb=st.sampled_from(["schedule", "soon", "unschedule", "start", "resume"]),
    )
    def plan(self, campaign: Campaign, who: int, verb: str) -> None:
        """When `run` is to do it. `start` and `resume` are those of REST: whoever does what is
        due does the rest."""
        db, clock = self.people[who], self.clock
        at = clock.now() + timedelta(seconds=100 if verb == "schedule" else 1)
        acts: dict[str, Callable[[], Any]] = {
            "unschedule": partial(control.unschedule, db, campaign, clock=clock),
            "start": partial(moves.start, db, campaign, clock),
            "resume": partial(moves.resume, db, campaign, clock),
        }
        planned = partial(control.schedule, db, campaign, at=at, clock=clock, if_missed="run")
        now = self._person(db, campaign, acts.get(verb, planned))
        if isinstance(now, Campaign) and verb != "resume":
            self.accepted[campaign.id]["scheduled_at"] = now.scheduled_at
            assert verb == "start" or now.scheduled_at == text(at)
        elif now is True:
            self.accepted[campaign.id].pop("scheduled_at", None)

    @rule(campaign=looks, who=st.integers(0, 1), afar=st.booleans())
    def pause(self, campaign: Campaign, who: int, *, afar: bool) -> None:
        """In a shell, or over REST."""
        db, path, wait = self.people[who], self.world.path, timedelta(seconds=2)
        ask: Callable[[], Any] = partial(moves.pause, db, path, campaign, self.clock)
        if not afar:
            ask = partial(control.pause, db, path, campaign, clock=self.clock, wait=wait)
        if isinstance(self._person(db, campaign, ask), bool):
            now = campaigns.by_id(db, campaign.id)
            assert not self._held(campaign)
            assert (now.status, now.queued) == (CampaignStatus.PAUSED, 0)

    @rule(
        campaign=looks,
        who=st.integers(0, 1),
        meanwhile=st.sampled_from(MEANWHILE),
        delete=st.booleans(),
        really=SELDOM,
    )
    def finish(
        self, campaign: Campaign, who: int, meanwhile: str, *, delete: bool, really: bool
    ) -> None:
        """For good, in pieces."""
        if really and delete:
            db = self.people[who]
            self._person(db, campaign, partial(drafts.delete, db, campaign, self.clock), meanwhile)
        elif really:
            self._cancel(campaign, who, meanwhile)

    def _cancel(self, campaign: Campaign, who: int, meanwhile: str = "") -> None:
        db, path, wait = self.people[who], self.world.path, timedelta(seconds=2)
        ask = partial(control.cancel, db, path, campaign, clock=self.clock, wait=wait)
        if isinstance(self._person(db, campaign, ask, meanwhile), bool):
            now = campaigns.by_id(db, campaign.id)
            assert now.status is CampaignStatus.CANCELLED
            assert (now.pending, now.queued) == (0, 0)
            self.killed.discard(campaign.id)

    @rule(
        campaign=looks,
        who=st.integers(0, 1),
        what=st.sampled_from(["all", "transient", "131026", *OUTCOMES]),
        meanwhile=st.sampled_from(MEANWHILE),
    )
    def decide(self, campaign: Campaign, who: int, what: str, meanwhile: str) -> None:
        """`retry` in its forms, and `settle`."""
        decide = self._settle if what in OUTCOMES else self._retry
        self._put_back(campaign, who, partial(decide, what), meanwhile)

    def _retry(self, kind: str, campaign: Campaign, db: Connection) -> None:
        named = kind not in ("all", "transient")
        chosen = control.failures(
            None if named else kind,
            contacts=None,
            codes=[kind] if named else [],
            transient=["131016"],
        )
        path = self.world.path
        control.retry(db, path, campaign, chosen, clock=self.clock, leave_alone={})

    def _settle(self, outcome: str, campaign: Campaign, db: Connection) -> None:
        path, told = self.world.path, MessageStatus(outcome)
        control.settle(db, path, campaign, told, Chosen(), clock=self.clock, leave_alone={})

    def _put_back(
        self,
        campaign: Campaign,
        who: int,
        ask: Callable[[Campaign, Connection], None],
        meanwhile: str = "",
    ) -> None:
        """Who failed or is in doubt may get it again, by a person's word."""
        db = self.people[who]

        def phones(status: str) -> set[str]:
            return {row[0] for row in db.execute(PHONES, (campaign.id, status))}

        undecided = phones("failed") | phones("in_doubt") | phones("queued")
        owed = phones("pending")

        def decided(*_: Any) -> None:
            ask(campaign, db)

        # A run may take them up again while the command is still at its other pieces.
        allowed = {phone for phone in undecided if not self.may_leave[campaign.id, phone]}
        self.asked[campaign.id] = allowed
        self._person(db, campaign, decided, meanwhile)
        for phone in phones("pending") - owed:
            assert phone not in self.gone, f"{phone} wants nothing, and is owed again"
            self.may_leave[campaign.id, phone] = True
        self.asked.pop(campaign.id, None)

    @rule(target=looks, campaign=looks, who=st.integers(0, 1))
    def duplicate(self, campaign: Campaign, who: int) -> Any:
        db = self.people[who]
        if len(campaigns.listed(db)) > 2:
            return multiple()
        copy = self._person(db, campaign, partial(drafts.duplicate, db, campaign, None, self.clock))
        if not isinstance(copy, Campaign):
            return multiple()
        self._know()
        assert self.texts[copy.id][-1][1] == self.texts[campaign.id][-1][1]
        self.left_out[copy.id] = set(self.left_out[campaign.id])
        return copy

    @rule(
        who=st.integers(0, 1),
        phone=st.sampled_from(PEOPLE),
        erase=SELDOM,
        meanwhile=st.sampled_from(["", "answer", "crash", "die"]),
    )
    def go_away(self, who: int, phone: str, meanwhile: str, *, erase: bool) -> None:
        """A STOP, or an erasure."""
        if not erase:
            self._opt_out(who, phone)
            return
        db, somewhere = self.people[who], campaigns.listed(self.db)[:1]
        ask = partial(erasure.remove, db, phone, at=self.at, clock=self.clock)
        for campaign in somewhere:
            if isinstance(self._person(db, campaign, ask, meanwhile or "nothing"), int):
                self.gone.setdefault(phone, self.at)

    def _opt_out(self, who: int, phone: str) -> None:
        contacts.opt_out(self.people[who], [phone], reason="STOP", at=self.at)
        self.gone.setdefault(phone, self.at)

    # -- what runs do

    @rule(
        campaign=looks,
        verb=st.sampled_from(["start", "resume"]),
        held=st.booleans(),
        as_shown=st.booleans(),
    )
    def carry(self, campaign: Campaign, verb: str, *, held: bool, as_shown: bool) -> None:
        """`held`: it has read the campaign, and takes it at a later step."""
        if len(self.world.processes) < MOST_PROCESSES:
            self.world.begin(campaign, verb, held=held, as_shown=as_shown)

    @rule(data=st.data(), held=st.booleans())
    def go(self, data: st.DataObject, *, held: bool) -> None:
        """What anybody would do who wants a campaign to be sent."""
        able = [each for each in campaigns.listed(self.db) if each.status not in FINISHED]
        if able and len(self.world.processes) < MOST_PROCESSES:
            campaign = data.draw(st.sampled_from(able))
            verb = "resume" if campaign.status is CampaignStatus.PAUSED else "start"
            self.world.begin(campaign, verb, held=held)

    @rule(held=st.booleans())
    def run_what_is_due(self, *, held: bool) -> None:
        found = due.look(
            self.people[1], self.world.path, clock=self.clock, home=ZoneInfo("Europe/Berlin")
        )
        assert found.refused == []
        self.killed.clear()
        for campaign in found.ready[:1]:
            if len(self.world.processes) < MOST_PROCESSES:
                self.world.begin(campaign, due.RUN, held=held)

    @precondition(lambda self: any(each.held and each.alive for each in self.world.processes))
    @rule(data=st.data())
    def let_take(self, data: st.DataObject) -> None:
        """WhatsApp says how the number is: the run goes on with what it has read."""
        waiting = [each for each in self.world.processes if each.held and each.alive]
        held = data.draw(st.sampled_from(waiting)).held
        if held is not None and not held.done():
            held.set_result(None)
        self.world.let_pass(0.05)

    @precondition(lambda self: self.world.flying)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(
            ["accepted", "accepted", "accepted", LOST, "lost", BUSY, SLOW_DOWN, GONE, STOPPED, DEAD]
        ),
    )
    def answer(self, data: st.DataObject, verdict: Any) -> None:
        """`lost` has arrived, `LOST` has not; we hear the same."""
        request = data.draw(st.sampled_from(self.world.flying))
        if verdict in ("accepted", "lost"):
            request.wamid = next(self.world.wamids)
            request.answer.set_result(Accepted(request.wamid) if verdict == "accepted" else LOST)
        else:
            request.answer.set_result(verdict)
            if verdict is not LOST:
                self.may_leave[request.campaign, request.message.to] = True
            if verdict is STOPPED:
                self.world.let_pass(0.02)
                self.gone.setdefault(request.message.to, self.at)
        self.world.let_pass(0.02)

    @precondition(lambda self: self.world.flying)
    @rule(count=st.integers(1, 3))
    def accept(self, count: int) -> None:
        """As nearly always."""
        for _ in range(count):
            self._accept_one()

    def _accept_one(self) -> None:
        for request in self.world.flying[:1]:
            request.wamid = next(self.world.wamids)
            request.answer.set_result(Accepted(request.wamid))
            self.world.let_pass(0.02)

    @precondition(lambda self: self.world.processes)
    @rule(data=st.data(), arrive=st.booleans())
    def crash(self, data: st.DataObject, *, arrive: bool) -> None:
        process = data.draw(st.sampled_from(self.world.processes))
        self._crash(process, arrive=arrive)

    def _crash(self, process: Process, *, arrive: bool) -> None:
        for request in self.world.flying:
            if request.process is process and arrive:
                request.wamid = next(self.world.wamids)
        if process.alive:
            self.world.crash(process)
            self.killed.add(process.campaign)

    @precondition(lambda self: any(each.wamid for each in self.world.requests))
    @rule(data=st.data(), status=st.sampled_from(Status), named=st.booleans())
    def receipt(self, data: st.DataObject, status: Status, *, named: bool) -> None:
        arrived = [each for each in self.world.requests if each.wamid]
        request = data.draw(st.sampled_from(arrived))
        told = Receipt(
            request.wamid or "",
            status,
            self.clock.now(),
            ref=Ref(request.campaign, request.row, request.attempt) if named else None,
            error=GONE if status is Status.FAILED else None,
        )
        account = accounts.get(self.db, "shop").id
        with immediate(self.db):
            receipts.apply(self.db, account, [told], at=self.at)

    @rule(seconds=st.sampled_from([0.3, 2.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.let_pass(seconds)

    # -- the laws

    def _held(self, campaign: Campaign) -> bool:
        return locks.is_held(self.world.path, campaign)

    @invariant()
    def nothing_that_left_broke_a_law(self) -> None:
        self.world.reap()
        for bug in self.world.bugs:
            raise bug

    @invariant()
    def the_file_is_sound(self) -> None:
        for campaign in campaigns.listed(self.db):
            found = audit(self.db, campaign, self._held)
            if campaign.id in self.killed:
                # The dead write nothing: who looks next, or the same command, goes on.
                found = [each for each in found if not each.endswith(LEFT_BY_THE_DEAD)]
            assert found == []
            assert not (campaign.reason or "").startswith("a bug"), campaign.reason

    @invariant()
    def what_was_accepted_stands_in_the_row(self) -> None:
        for campaign in campaigns.listed(self.db):
            text_of = campaign.content["text"]["body"]
            assert text_of == self.texts[campaign.id][-1][1] + " {{ first_name }}"
            for column, said in self.accepted[campaign.id].items():
                if column != "scheduled_at" or campaign.status is CampaignStatus.SCHEDULED:
                    assert getattr(campaign, column) == said, column

    @invariant()
    def who_may_have_it_is_not_owed_it(self) -> None:
        """Not even for a moment: the next run would send it."""
        for id_, complete, phone in self.db.execute(OWED):
            assert self.may_leave[id_, phone], f"{phone} may have it, and is owed it"
            assert phone not in self.left_out[id_] or not complete


TwoPeople.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTwoPeople = TwoPeople.TestCase
