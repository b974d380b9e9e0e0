"""Two people at one campaign: each acts on what it was when they looked, and nothing is lost."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import WABCAST, Ran
from make import CONTENT, Make
from pysqlite3.dbapi2 import Connection
from storm import field_of

from wabcast import control, drafts
from wabcast.audience import EVERYBODY, Audience, AudienceKind
from wabcast.campaign import Campaign, CampaignStatus
from wabcast.delivery import MessageStatus
from wabcast.drafts import Draft
from wabcast.errors import NotFound, Refused, UsageError, WabcastError
from wabcast.store import audits, campaigns, decisions
from wabcast.store.database import connect, immediate
from wabcast.store.decisions import Chosen

HI = {"type": "text", "text": {"body": "Hi {{ code }}"}}


def test_two_edits_of_different_fields_both_hold(db: Connection, make: Make) -> None:
    seen = make.campaign(people=1)
    drafts.edit(db, seen, None, Draft(rate="40/m", variables={"code": "A1"}), make.clock)
    drafts.edit(db, seen, "summer", Draft(description="for the summer"), make.clock)
    drafts.edit(db, seen, None, Draft(content=HI), make.clock)
    now = make.look(seen)
    assert (now.name, now.description, now.rate) == ("summer", "for the summer", "40/m")
    assert (now.variables, now.content) == ({"code": "A1"}, HI)


def test_an_edit_leaves_what_a_schedule_has_set(db: Connection, make: Make) -> None:
    seen = make.campaign(people=1)
    at = make.clock.now() + timedelta(hours=1)
    control.schedule(db, seen, at=at, clock=make.clock, timezone="Europe/Berlin")
    now = drafts.edit(db, seen, None, Draft(description="a word"), make.clock)
    assert (now.status, now.timezone) == (CampaignStatus.SCHEDULED, "Europe/Berlin")
    assert now.scheduled_at == "2026-11-05T11:00:00.000Z"


def test_what_two_edits_make_together_is_judged_together(db: Connection, make: Make) -> None:
    """Each was fine for the campaign as its author had seen it."""
    seen = make.campaign(people=1, windows="09:00-20:00")
    drafts.edit(db, seen, None, Draft(windows=""), make.clock)
    with pytest.raises(UsageError, match="--recipient-timezone"):
        drafts.edit(db, seen, None, Draft(recipient_timezone=True), make.clock)
    make.account("waha", "waha", settings={"base_url": "http://127.0.0.1:1"})
    drafts.edit(db, seen, None, Draft(account="waha"), make.clock)
    template = {"type": "template", "template": {"name": "hello", "language": {"code": "en"}}}
    with pytest.raises(Refused, match="waha account cannot send template"):
        drafts.edit(db, seen, None, Draft(content=template), make.clock)
    assert make.look(seen).content == CONTENT


def move_on(db: Connection, make: Make, seen: Campaign, *verbs: str) -> Campaign:
    for verb in verbs:
        with immediate(db):
            assert campaigns.move(db, seen, verb, at=make.at, run="a run")
    return make.look(seen)


@pytest.mark.parametrize("verbs", [("start",), ("start", "pause"), ("cancel",), ("start", "fail")])
def test_a_refresh_beside_a_start_leaves_the_ledger_alone(
    db: Connection, make: Make, verbs: tuple[str, ...]
) -> None:
    seen = make.campaign(people=3)
    move_on(db, make, seen, *verbs)
    decisions.skip_rest(db, make.look(seen), clock=make.clock)
    rows = [tuple(row) for row in db.execute("select * from campaign_messages order by id")]
    with pytest.raises(Refused, match="Cannot refresh"):
        drafts.refresh(db, seen, make.clock)
    with pytest.raises(Refused):
        drafts.edit(db, seen, None, Draft(audience=EVERYBODY), make.clock)
    assert [tuple(row) for row in db.execute("select * from campaign_messages order by id")] == rows
    assert audits.audit(db, seen) == []


def test_an_edit_with_a_wrong_audience_changes_nothing(db: Connection, make: Make) -> None:
    seen = make.campaign(people=3)
    wrong = Audience(AudienceKind.SEGMENT, segment="nobody knows it")
    with pytest.raises(NotFound):
        drafts.edit(db, seen, None, Draft(rate="40/m", audience=wrong), make.clock)
    assert make.look(seen) == seen


def test_the_account_of_a_campaign_that_has_sent_stays(db: Connection, make: Make) -> None:
    make.account("other")
    fresh = make.campaign("fresh", people=1, status="paused")
    assert drafts.edit(db, fresh, None, Draft(account="other"), make.clock).account == "other"
    for status in ("sent", "queued", "in_doubt", "failed"):
        sent = make.campaign(f"has {status}", status="paused")
        make.campaign_message(status, campaign=sent)
        with pytest.raises(Refused, match="has sent from shop"):
            drafts.edit(db, sent, None, Draft(account="other"), make.clock)
        assert drafts.edit(db, sent, None, Draft(account="shop"), make.clock).account == "shop"
    tried = make.campaign("was tried", people=1, status="paused")
    db.execute("update campaigns set last_slot_at = 1 where id = ?", (tried.id,))
    with pytest.raises(Refused, match="has sent from shop"):
        drafts.edit(db, make.look(tried), None, Draft(account="other"), make.clock)


# What a person saw is gone, and another has its name, and its row number.
Act = Callable[[Connection, Path, Make, Campaign], object]

ACTS: dict[str, Act] = {
    "pause": lambda db, path, make, seen: control.pause(db, path, seen, clock=make.clock),
    "cancel": lambda db, path, make, seen: control.cancel(
        db, path, seen, clock=make.clock, wait=timedelta(0)
    ),
    "unschedule": lambda db, _, make, seen: control.unschedule(db, seen, clock=make.clock),
    "schedule": lambda db, _, make, seen: control.schedule(
        db, seen, at=make.clock.now(), clock=make.clock
    ),
    "resume": lambda db, _, make, seen: control.wait_again(db, seen, clock=make.clock),
    "retry": lambda db, path, make, seen: control.retry(
        db, path, seen, Chosen(), clock=make.clock, leave_alone={}
    ),
    "settle": lambda db, path, make, seen: control.settle(
        db, path, seen, MessageStatus.SENT, Chosen(), clock=make.clock, leave_alone={}
    ),
    "edit": lambda db, _, make, seen: drafts.edit(db, seen, None, Draft(rate="9/s"), make.clock),
    "refresh": lambda db, _, make, seen: drafts.refresh(db, seen, make.clock),
    "duplicate": lambda db, _, make, seen: drafts.duplicate(db, seen, None, make.clock),
    "delete": lambda db, _path, make, seen: drafts.delete(db, seen, make.clock),
}


@pytest.mark.parametrize("verb", ACTS)
def test_nothing_is_done_to_another_campaign_of_the_same_name(
    db: Connection, db_path: Path, make: Make, verb: str
) -> None:
    seen = make.campaign("spring", people=2, status="scheduled")
    drafts.delete(db, seen, make.clock)
    other = make.campaign("spring", status="scheduled")
    db.execute("pragma foreign_keys = off")
    db.execute("update campaigns set number = ? where id = ?", (seen.number, other.id))
    db.execute("update campaign_messages set campaign_id = ?", (seen.number,))
    other = make.look(replace(other, number=seen.number))
    with pytest.raises(WabcastError, match="gone"):
        ACTS[verb](db, db_path, make, seen)
    assert campaigns.listed(db) == [other]
    assert audits.audit(db, other) == []


def test_a_move_of_one_that_is_gone_moves_nothing(db: Connection, make: Make) -> None:
    seen = make.campaign("spring", people=2)
    drafts.delete(db, seen, make.clock)
    other = make.campaign("spring")
    with immediate(db):
        assert not campaigns.move(db, seen, "cancel", at=make.at)
    assert make.look(other) == other


def answer_late(
    env: dict[str, str], folder: Path, args: tuple[str, ...], meanwhile: Callable[[], object]
) -> tuple[int, str]:
    """Run a command on a terminal, and type `y` at its prompt after `meanwhile`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [WABCAST, *args], env=env, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    told = b""
    while b"[y/N]" not in told:
        told += os.read(ours, 4096)
    meanwhile()
    os.write(ours, b"y\n")
    try:
        while chunk := os.read(ours, 4096):
            told += chunk
    except OSError:  # a terminal that nobody is at any more
        pass
    os.close(ours)
    return process.wait(timeout=60), told.decode()


@pytest.mark.parametrize("verb", ["cancel", "delete", "start"])
def test_a_y_that_is_typed_late_hits_no_other_campaign(
    cli: Callable[..., Ran], cli_env: dict[str, str], tmp_path: Path, verb: str
) -> None:
    def create() -> None:
        ran = cli("campaign", "create", "a", "--account", "shop", "--all", "--text", "Hi")
        assert ran.code == 0, ran.stderr

    def another() -> None:
        assert cli("campaign", "delete", "a", "--yes").code == 0
        create()

    cli("account", "add", "shop", "--provider", "sandbox")
    cli("contact", "add", "+4915112345611")
    create()
    code, told = answer_late(cli_env, tmp_path, ("campaign", verb, "a"), another)
    assert code == 10, told
    now = cli("campaign", "show", "a", "--json").json
    assert (now["status"], now["pending"]) == ("draft", 1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("order", [("refresh", "start"), ("start", "refresh")])
def test_a_refresh_and_a_start_that_waited_for_the_file_together(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    """A writer holds the lock while both look at the draft; then they go, in any order."""
    words = {"refresh": ("refresh", "storm"), "start": ("start", "storm", "--quiet", "--yes")}
    with field_of(tmp_path) as place:
        place.campaign(60, "--rate", "max")
        writer = connect(tmp_path / "wabcast.db")
        with immediate(writer):
            both = [place.spawn("campaign", *words[verb]) for verb in order]
            time.sleep(2.5)
        writer.close()
        codes = {verb: one.wait(timeout=60) for verb, one in zip(order, both, strict=True)}
        assert codes["start"] == 0
        assert codes["refresh"] in (0, 5, 11)
        sent = Counter(entry["to"] for entry in place.seen())
        assert (len(sent), set(sent.values())) == (60, {1})
        told = place.show()
        assert (told["status"], told["messages_sent"]) == ("completed", 60)
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]
