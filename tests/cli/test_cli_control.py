"""The exit codes of whoever controls a campaign from another terminal, state by state."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import control, locks
from wabcast.campaign import CampaignStatus
from wabcast.clock import Clock, text
from wabcast.store import campaigns, database

Cli = Callable[..., Ran]

DONE = ("completed", "failed", "cancelled")


@pytest.fixture
def states(make: Make) -> Make:
    """A campaign in each state, called by it; the running one's process is gone."""
    for status in CampaignStatus:
        make.campaign(status.value, status=status.value, people=1, run_id="a run")
    return make


def test_list_and_show_say_that_a_process_is_gone_and_what_to_do(
    quick_cli: Cli, make: Make, db_path: Path
) -> None:
    campaign = make.campaign(status="running", people=1, run_id="a run")
    way_out = "go on with: wabcast campaign resume 'spring'"
    for _ in range(2):
        shown, listed = quick_cli("campaign", "show", "spring"), quick_cli("campaign", "list")
        assert f"its process is gone; {way_out}" in shown.stdout
        assert "running: process gone" in listed.stdout
        assert way_out in listed.stderr
        assert quick_cli("campaign", "show", "spring", "--json").json["status"] == "running"
        with locks.held(db_path, campaign):
            assert "gone" not in quick_cli("campaign", "show", "spring").stdout
            told = quick_cli("campaign", "list")
            assert "gone" not in told.stdout + told.stderr


def test_a_run_that_ends_between_two_looks_is_not_called_gone(
    db: Connection, make: Make, db_path: Path
) -> None:
    """Its row was read while it ran; by the time the lock is looked at, it is over."""
    before = make.campaign(status="running", run_id="a run")
    assert control.is_abandoned(db, db_path, before)
    for now in ("status = 'completed', run_id = null", "run_id = 'the next run'"):
        with database.immediate(db):
            db.execute(f"update campaigns set {now}")  # noqa: S608  # a test's own words
        assert not control.is_abandoned(db, db_path, before)


@pytest.mark.parametrize(
    ("words", "names", "code"),
    [
        (("start",), ("paused", *DONE), 5),
        (("resume",), ("draft", "scheduled", *DONE), 5),
        (("pause",), ("paused", "scheduled"), 0),
        (("pause",), ("draft", *DONE), 5),
        (("unschedule",), ("draft", "scheduled"), 0),
        (("unschedule",), ("running", "paused", *DONE), 5),
        (("schedule", "--at", "+1h"), ("draft", "scheduled"), 0),
        (("schedule", "--at", "+1h"), ("running", "paused", *DONE), 5),
        (("cancel",), ("draft", "running", "paused", "scheduled"), 5),
        (("cancel",), ("cancelled",), 0),
        (("cancel", "--yes"), ("draft", "paused", "scheduled", "cancelled"), 0),
        (("cancel", "--yes"), ("completed", "failed"), 5),
        (("retry",), ("draft", "paused", "completed", "failed"), 0),
        (("settle", "--as", "sent"), ("draft", "paused", "completed", "failed"), 0),
        (("settle", "--as", "sent"), ("cancelled",), 0),
        (("settle", "--as", "pending"), ("cancelled",), 5),
        (("retry",), ("cancelled",), 5),
        (("retry", "--phone", "+4915112345678"), ("draft", "completed"), 10),
        (("settle", "--as", "sent", "--phone", "+4915112345678"), ("draft", "completed"), 10),
        (("watch",), ("draft", "running", "paused", *DONE), 0),
        (("delete",), ("draft", "completed"), 5),
    ],
)
@pytest.mark.usefixtures("states")
def test_a_verb_and_a_state(
    quick_cli: Cli, words: tuple[str, ...], names: tuple[str, ...], code: int
) -> None:
    for name in names:
        ran = quick_cli("campaign", words[0], name, *words[1:])
        assert ran.code == code, f"{name}: {ran.stderr}"
        assert code == 0 or "hint: " in ran.stderr
    assert quick_cli("campaign", words[0], "nobody", *words[1:]).code == 10


def test_what_another_process_holds(quick_cli: Cli, states: Make, db_path: Path) -> None:
    held = campaigns.get(states.db, "running")
    with locks.held(db_path, held):
        for words in (("start",), ("resume",), ("retry",), ("settle", "--as", "sent")):
            ran = quick_cli("campaign", words[0], "running", *words[1:])
            assert ran.code == 11, f"{words}: {ran.stderr}"
        assert quick_cli("campaign", "edit", "running", "--rate", "max").code == 5
        # The pause stands, though its process has not let go yet.
        assert quick_cli("campaign", "pause", "running", "--wait", "0s").code == 11
        assert states.look(held).status is CampaignStatus.PAUSED
        assert quick_cli("campaign", "pause", "paused", "running", "--wait", "0s").code == 11


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("paused", "scheduled"), 0),
        (("paused", "draft"), 5),
        (("draft", "paused", "running"), 5),
        (("nobody", "draft", "running"), 10),
    ],
)
@pytest.mark.usefixtures("states")
def test_of_several_the_worst_and_none_stops_the_others(
    quick_cli: Cli, names: tuple[str, ...], code: int
) -> None:
    ran = quick_cli("campaign", "pause", *names)
    assert ran.code == code, ran.stderr
    if "running" in names:
        assert quick_cli("campaign", "show", "running", "--json").json["status"] == "paused"


@pytest.mark.usefixtures("states")
def test_what_was_done_already_is_a_note(quick_cli: Cli) -> None:
    for words in (("pause", "paused"), ("cancel", "cancelled", "--yes"), ("unschedule", "draft")):
        ran = quick_cli("campaign", *words)
        assert (ran.code, "already" in ran.stderr or "not scheduled" in ran.stderr) == (0, True)


@pytest.mark.parametrize("verb", ["start", "run"])
def test_an_unreachable_server_is_given_up_as_patience_says(
    cli: Cli, make: Make, verb: str
) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        settings = {
            "base_url": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "phone_number_id": "1",
        }
        make.account("far", "cloud", settings=settings, secrets={"token": "env:FAR_TOKEN"})
        campaign = make.campaign("spring", people=3, account="far")
        words = ("campaign", "start", "spring", "--yes") if verb == "start" else ("run",)
        if verb == "run":
            make.db.execute(
                "update campaigns set status = 'scheduled', scheduled_at = ?, if_missed = 'run'",
                (make.at,),
            )
        ran = cli(*words, "--patience", "3s", env={"FAR_TOKEN": "a-token-of-no-one"})
    assert ran.code == 4, ran.stderr
    assert "account cooling down until " in ran.stdout + ran.stderr
    assert "given up after 3 s" in ran.stdout + ran.stderr
    now = make.look(campaign)
    assert (now.status, now.pending) == (CampaignStatus.PAUSED, 3)
    assert (now.resume_at is None) is (verb == "start")
    assert cli(*words, "--patience", "soon").code == 2


@pytest.mark.usefixtures("states")
@pytest.mark.parametrize("words", [("retry", "--class", "some"), ("retry", "--phone", "many")])
def test_what_is_neither_a_class_nor_a_number(quick_cli: Cli, words: tuple[str, ...]) -> None:
    assert quick_cli("campaign", words[0], "completed", *words[1:]).code == 2


def test_retry_says_who_was_left_out_and_why(quick_cli: Cli, make: Make) -> None:
    campaign = make.campaign(status="completed")
    for phone, code in (("+4915100000001", "131026"), ("+4915100000002", "131026")):
        contact = make.contact(phone)
        make.campaign_message("failed", campaign=campaign, contact=contact, error_code=code)
    just_now = text(Clock().now())
    tired = make.contact("+4915100000003")
    make.campaign_message(
        "failed", campaign=campaign, contact=tired, error_code="131049", failed_at=just_now
    )
    make.db.execute("update contacts set opted_out_at = '2026' where phone like '%2'")
    ran = quick_cli("campaign", "retry", "spring")
    assert "no failure was of the passing kind; --class all" in ran.stderr
    ran = quick_cli("campaign", "retry", "spring", "--code", "131016", "--code", "470")
    assert "what has failed, has with: 131026 (2), 131049 (1)" in ran.stderr
    ran = quick_cli("campaign", "retry", "spring", "--class", "all", "--json")
    assert ran.json["pending"] == 1
    assert ran.json["status"] == "paused"
    left = "2 were left as they are: 1 opted out, 1 left alone for now, as WhatsApp asked"
    assert left in ran.stderr
    assert "1 are pending again" in ran.stderr


def test_retry_and_settle_of_named_people_and_codes(quick_cli: Cli, make: Make) -> None:
    campaign = make.campaign(status="completed")
    phones = [f"+491510000000{number}" for number in range(4)]
    for phone in phones:
        make.campaign_message("failed", campaign=campaign, contact=make.contact(phone))
    words = ("--phone", "+49 151 00000000", "--phone", phones[1])
    assert quick_cli("campaign", "retry", "spring", *words, "--json").json["pending"] == 2
    assert quick_cli("campaign", "retry", "spring", *words, "--json").json["pending"] == 2
    words = ("--class", "transient", "--phone", phones[2])
    assert quick_cli("campaign", "retry", "spring", *words, "--json").json["pending"] == 2
    assert quick_cli("campaign", "retry", "spring", "--code", "test", "--json").json["pending"] == 4
    make.db.execute("update campaign_messages set status = 'in_doubt', error_message = 'lost'")
    ran = quick_cli("campaign", "settle", "spring", "--as", "sent", "--phone", phones[3])
    assert "not confirmed: Count 1 in doubt of spring as sent?" in ran.stderr
    words = ("settle", "spring", "--yes", "--json")
    ran = quick_cli("campaign", *words, "--as", "sent", "--phone", phones[3])
    assert (ran.json["in_doubt"], ran.json["messages_sent"]) == (3, 1)
    ran = quick_cli("campaign", *words, "--as", "failed", "--code", "none")
    assert ran.json["in_doubt"] == 3
    ran = quick_cli("campaign", *words, "--as", "failed")
    assert (ran.json["in_doubt"], ran.json["messages_failed"]) == (0, 3)


def test_a_pause_of_a_run_that_died_says_what_is_in_doubt(quick_cli: Cli, make: Make) -> None:
    campaign = make.campaign(status="running", run_id="a run")
    make.campaign_message("queued", campaign=campaign)
    ran = quick_cli("campaign", "pause", "spring")
    assert "1 were on the wire when its process died: they are in doubt" in ran.stderr
    assert quick_cli("campaign", "audit", "spring", "--json").json == {"ok": True, "findings": []}
    ran = quick_cli("campaign", "settle", "spring", "--as", "failed", "--yes")
    assert "settled 1 as failed" in ran.stderr


def test_settle_looks_for_what_a_run_left_that_died_in_its_pause(
    quick_cli: Cli, make: Make
) -> None:
    campaign = make.campaign(status="paused", run_id="a run")
    make.campaign_message("queued", campaign=campaign)
    audited = quick_cli("campaign", "audit", "spring", "--json")
    assert audited.code == 1
    assert "that no run holds" in audited.json["findings"][0]
    assert quick_cli("campaign", "settle", "spring", "--as", "sent").code == 5
    assert quick_cli("campaign", "settle", "spring", "--as", "sent", "--yes", "--json").json
    assert quick_cli("campaign", "audit", "spring", "--json").json == {"ok": True, "findings": []}
