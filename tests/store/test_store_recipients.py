"""Recipients come and go piece by piece: each leaves the laws true, and a kill loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from make import CONTENT, Make
from pysqlite3.dbapi2 import Connection

from wabcast import control, drafts, locks
from wabcast.audience import EVERYBODY, Audience, AudienceKind
from wabcast.campaign import Campaign, CampaignStatus, RecipientsState
from wabcast.drafts import Draft
from wabcast.errors import Busy, NotFound, Refused, WabcastError
from wabcast.store import audits, campaigns, contacts, erasure, pieces
from wabcast.store.database import connect, immediate

EVENTS = "select event, data from events order by id"
FEW = Audience(AudienceKind.PHONES, phones=("+4915000000111", "+4915000000211"))


class Killed(Exception):
    """What a test throws where a process might die."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of three, without a rest."""
    for name in ("FIRST", "LEAST", "MOST"):
        monkeypatch.setattr(pieces, name, 3)
    monkeypatch.setattr(pieces, "GAP", 0)


@pytest.fixture
def colleague(db_path: Path) -> Iterator[Connection]:
    db = connect(db_path)
    yield db
    db.close()


def people(make: Make, count: int) -> None:
    with immediate(make.db):
        for _ in range(count):
            make._contact()


def draft(make: Make, name: str = "spring", audience: Audience = EVERYBODY) -> Campaign:
    make.account()
    said = Draft(account="shop", content=CONTENT, audience=audience)
    return drafts.create(make.db, name, said, make.clock)


class After:
    """Acts behind the commit of piece `number`, the first being 1."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]
    ) -> None:
        self.pieces = 0

        def passing(name: str) -> None:
            if name == "after-piece":
                self.pieces += 1
                if self.pieces == number:
                    act()

        monkeypatch.setattr(pieces, "failpoint", passing)


def die() -> None:
    raise Killed


def test_few_people_are_one_transaction(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(make, 5)
    seen = After(monkeypatch, 0, die)
    campaign = draft(make)
    assert (seen.pieces, campaign.complete, campaign.total_recipients) == (1, True, 5)
    assert drafts.refresh(db, campaign, make.clock).total_recipients == 5
    drafts.edit(db, campaign, None, Draft(audience=FEW), make.clock)
    drafts.delete(db, campaign, make.clock)
    assert seen.pieces == 4
    assert campaigns.listed(db) == []


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7, 20])
def test_all_are_there_in_their_order_however_many_pieces(
    db: Connection, make: Make, count: int
) -> None:
    people(make, count)
    campaign = draft(make)
    ids = [row[0] for row in db.execute("select id from contacts order by id")]
    assert [message.contact_id for message in make.due(campaign)] == ids
    assert (campaign.total_recipients, campaign.pending) == (count, count)
    assert (campaign.recipients_state, campaign.recipients_run) == (RecipientsState.COMPLETE, None)
    people(make, 2)
    again = drafts.refresh(db, campaign, make.clock)
    assert (again.total_recipients, again.pending) == (count + 2, count + 2)
    assert audits.audit(db, again) == []
    told = [(row["event"], json.loads(row["data"])) for row in db.execute(EVENTS)]
    created = {"campaignId": campaign.id, "totalRecipients": count}
    assert told == [("campaign:created", created)]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("piece", range(1, 9))
@pytest.mark.parametrize("verb", ["create", "refresh", "edit", "duplicate", "delete"])
def test_a_kill_between_two_pieces_is_gone_on_with_by_the_same_command(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch, verb: str, piece: int
) -> None:
    people(make, 10)
    first = draft(make, "first") if verb != "create" else None
    acts: dict[str, Callable[[Any], object]] = {
        "create": lambda _: draft(make),
        "refresh": lambda made: drafts.refresh(db, made, make.clock),
        "edit": lambda made: drafts.edit(db, made, None, Draft(audience=EVERYBODY), make.clock),
        "duplicate": lambda made: drafts.duplicate(db, made, "spring", make.clock),
        "delete": lambda made: drafts.delete(db, made, make.clock),
    }
    with monkeypatch.context() as patch:
        After(patch, piece, die)
        try:
            acts[verb](first)
        except Killed:
            pass
        else:
            return  # it had fewer pieces
    for left in campaigns.listed(db):
        assert audits.audit(db, left) == []
        if left.complete:
            continue
        for move in ("start", "resume", "take over"):
            with immediate(db):
                assert not campaigns.move(db, left, move, at=make.at, run="r")
        assert campaigns.as_json(left)["reason"]
    if all(left.complete for left in campaigns.listed(db)):
        return  # all was done: whoever asks again is told so
    acts[verb](first)
    assert all(left.complete for left in campaigns.listed(db))
    names = {left.name: left.total_recipients for left in campaigns.listed(db)}
    assert names == {
        "create": {"spring": 10},
        "duplicate": {"first": 10, "spring": 10},
        "delete": {},
    }.get(verb, {"first": 10})
    for left in campaigns.listed(db):
        assert audits.audit(db, left) == []
    assert audits.audit_file(db).findings == []


@pytest.mark.usefixtures("small")
def test_who_is_chosen_is_chosen_at_one_moment_but_an_opt_out_holds(
    db: Connection, make: Make, colleague: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(make, 12)
    numbers = [row[0] for row in db.execute("select phone from contacts order by id")]

    def meanwhile() -> None:
        contacts.upsert(colleague, [contacts_new("+4915999999911")], at=make.at)
        contacts.opt_out(colleague, [numbers[0], numbers[-1]], reason="stop", at=make.at)
        contacts.block(colleague, [numbers[-2]], at=make.at)
        erasure.remove(colleague, numbers[-3], at=make.at, clock=make.clock)

    After(monkeypatch, 1, meanwhile)
    campaign = draft(make)
    chosen = [message.phone for message in make.due(campaign)]
    assert chosen == [number for number in numbers if number not in numbers[-3:]]
    assert campaign.total_recipients == 9
    assert audits.audit(db, campaign) == []


def contacts_new(phone: str) -> Any:
    from wabcast.contacts import Contact

    return Contact(phone)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("verb", ["cancel", "delete", "refresh", "edit", "schedule", "pause"])
def test_what_a_colleague_does_to_it_between_two_pieces(
    db: Connection,
    db_path: Path,
    make: Make,
    colleague: Connection,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    """Of two at once one is refused or both hold; and whatever is left is sound."""
    people(make, 12)
    refused: list[WabcastError] = []

    def meanwhile() -> None:
        (seen,) = campaigns.listed(colleague)
        acts: dict[str, Callable[[], object]] = {
            "cancel": lambda: move(colleague, seen, "cancel"),
            "pause": lambda: move(colleague, seen, "schedule", "pause"),
            "delete": lambda: drafts.delete(colleague, seen, make.clock),
            "refresh": lambda: drafts.refresh(colleague, seen, make.clock),
            "edit": lambda: drafts.edit(colleague, seen, "summer", Draft(), make.clock),
            "schedule": lambda: control.schedule(
                colleague, seen, at=make.clock.now(), clock=make.clock
            ),
        }
        try:
            acts[verb]()
        except WabcastError as exc:
            refused.append(exc)

    def move(db: Connection, seen: Campaign, *verbs: str) -> None:
        for verb in verbs:
            with immediate(db):
                assert campaigns.move(db, seen, verb, at=make.at)

    After(monkeypatch, 2, meanwhile)
    if verb == "cancel":
        with pytest.raises(Busy, match="cancelled"):
            draft(make)
    else:
        draft(make)
    (now,) = campaigns.listed(db)
    assert bool(refused) is (verb in ("delete", "refresh"))
    assert now.complete
    wanted = {"edit": "summer"}.get(verb, "spring")
    status = {"cancel": "cancelled", "schedule": "scheduled", "pause": "paused"}.get(verb, "draft")
    assert (now.name, now.status) == (wanted, status)
    assert verb == "cancel" or now.total_recipients == 12
    if verb != "cancel":
        assert audits.audit(db, now) == []
    assert not locks.is_held(db_path, now)


@pytest.mark.usefixtures("small")
def test_one_who_lost_the_campaign_writes_no_more(
    db: Connection, make: Make, colleague: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a long sleep, the lock's file deleted: the run on the row fences it."""
    people(make, 12)

    def another() -> None:
        with immediate(colleague):
            colleague.execute("update campaigns set recipients_run = 'another'")

    After(monkeypatch, 2, another)
    with pytest.raises(Busy, match="another's"):
        draft(make)
    (left,) = campaigns.listed(db)
    assert (left.complete, left.total_recipients) == (False, 6)
    assert audits.audit(db, left) == []
    with monkeypatch.context() as patch:
        After(patch, 0, die)
        assert drafts.refresh(db, left, make.clock).total_recipients == 12


@pytest.mark.usefixtures("small")
def test_an_unfinished_one_that_was_paused_can_be_refreshed(
    db: Connection, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(make, 9)
    with monkeypatch.context() as patch:
        After(patch, 2, die)
        with pytest.raises(Killed):
            draft(make)
    (left,) = campaigns.listed(db)
    for verb in ("schedule", "pause"):
        with immediate(db):
            assert campaigns.move(db, left, verb, at=make.at)
    now = drafts.refresh(db, left, make.clock)
    assert (now.status, now.complete, now.pending) == (CampaignStatus.PAUSED, True, 9)
    with pytest.raises(Refused, match="Cannot refresh"):
        drafts.refresh(db, now, make.clock)


@pytest.mark.usefixtures("small")
def test_only_what_an_interrupted_creation_left_makes_room_for_its_name(
    db: Connection, db_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(make, 9)
    with monkeypatch.context() as patch:
        After(patch, 2, die)
        with pytest.raises(Killed):
            draft(make)
    (left,) = campaigns.listed(db)
    with locks.held(db_path, left), pytest.raises(Busy, match="at work on spring"):
        draft(make)
    with pytest.raises(NotFound):
        draft(make, audience=Audience(AudienceKind.SEGMENT, segment="nobody knows it"))
    assert make.look(left) == left
    made = draft(make, audience=FEW)
    assert made.id != left.id
    assert make.look(made).total_recipients == 2
    with pytest.raises(Refused, match="already"):
        draft(make)
