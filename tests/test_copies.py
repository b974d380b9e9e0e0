"""Copies of the database in mid-run, as people make them: what leaves from them, and when."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from storm import Field, field_of, receipts

pytestmark = pytest.mark.timeout(300)


def carry_half(place: Field) -> Path:
    """A campaign in mid-run, killed after a copy of its file was made; where the copy is."""
    place.campaign(120, "--rate", "60/s")
    process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
    place.until(process, 20)
    copy = place.home / "copy.db"
    place.run("db", "backup", str(copy))
    seen = len(place.seen())
    place.until(process, seen + 20)
    process.kill()
    process.wait()
    return copy


def refused(place: Field) -> None:
    """Nothing starts, each time, whatever is asked for, until a person has said the word."""
    before, status = len(place.seen()), place.show()["status"]
    for again in ("start", "start", "resume"):
        place.run("campaign", again, "--yes", "storm", code=5)
    place.run("run", "--quiet", code=5)
    place.run("db", "adopt", code=5)  # nobody there to ask, and no --yes
    place.run("campaign", "start", "--yes", "storm", code=5)
    assert place.show()["status"] == status
    assert len(place.seen()) == before


def adopted_then_resumed(place: Field) -> None:
    """Once a person has said so it goes on, and what was on the wire stays in doubt."""
    refused(place)
    place.run("db", "adopt", "--yes")
    before = len(place.seen())
    assert place.run("run", "--quiet") == ""
    assert len(place.seen()) == before
    verb = "start" if place.show()["status"] == "draft" else "resume"
    place.run("campaign", verb, "storm", "--yes", "--quiet", code=None)
    assert place.show()["status"] == "completed"
    assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]


def everybody_once(place: Field, people: int) -> None:
    sent = Counter(entry["to"] for entry in place.seen())
    assert set(sent.values()) == {1}
    told = place.show()
    assert told["messages_sent"] + told["in_doubt"] == people


def test_whatever_would_send_is_refused_in_a_copy(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(20)
        place.run("campaign", "schedule", "storm", "--at", "+1h")
        place.run("db", "backup", str(tmp_path / "copy.db"))
        place.env["WABCAST_DB"] = str(tmp_path / "copy.db")
        refused(place)
        place.run("campaign", "test", "--yes", "storm", "--to", "+491713920001", code=5)
        place.run("campaign", "schedule", "storm", "--at", "+2h", code=5)
        place.run("serve", "--port", "0", code=5)
        place.run("run", "--watch", code=5)
        assert place.seen() == []
        # Whoever only looks, prepares or stops is let.
        place.run("campaign", "check", "storm", code=None)
        place.run("campaign", "duplicate", "storm")
        place.run("campaign", "pause", "storm")


@pytest.mark.parametrize("with_log", [True, False])
def test_a_plain_copy_beside_a_living_run_sends_nothing(tmp_path: Path, *, with_log: bool) -> None:
    """Without its log it is the draft that it was when the last checkpoint was made."""
    with field_of(tmp_path) as place:
        place.campaign(150, "--rate", "50/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 10)
        for suffix in ("", "-wal") if with_log else ("",):
            shutil.copy2(tmp_path / f"wabcast.db{suffix}", tmp_path / f"copy.db{suffix}")
        assert process.wait(timeout=60) == 0
        mine, place.env["WABCAST_DB"] = place.env["WABCAST_DB"], str(tmp_path / "copy.db")
        assert place.show()["status"] == ("running" if with_log else "draft")
        refused(place)
        place.env["WABCAST_DB"] = mine
        everybody_once(place, 150)


def test_a_backup_of_a_draft_put_elsewhere_sends_nothing(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(20)
        place.run("db", "backup", str(tmp_path / "copy.db"))
        place.env["WABCAST_DB"] = str(tmp_path / "there.db")
        assert json.loads(place.run("db", "restore", "copy.db", "--json"))["adopted"] is False
        adopted_then_resumed(place)
        everybody_once(place, 20)
        place.env["WABCAST_DB"] = str(tmp_path / "copy.db")
        refused(place)


def draft_then_killed(place: Field, copy: str) -> int:
    """A draft, a copy of it, and then a run that is killed; how many had left."""
    place.campaign(300, "--rate", "100/s")
    if copy == "by db backup":
        place.run("db", "backup", str(place.home / "copy.db"))
    else:
        shutil.copyfile(place.home / "wabcast.db", place.home / "copy.db")
    process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
    place.until(process, 80)
    process.kill()
    process.wait()
    return len(place.seen())


def test_a_draft_put_back_by_restore_knows_what_has_left(tmp_path: Path) -> None:
    """And there is no false alarm: `start` goes on with it."""
    with field_of(tmp_path) as place:
        left = draft_then_killed(place, "by db backup")
        told = json.loads(place.run("db", "restore", "copy.db", "--yes", "--json"))
        assert told["adopted"] is True
        assert left - 10 <= told["known_since"] <= left + 10
        place.run("campaign", "start", "--yes", "storm", "--quiet", code=None)
        everybody_once(place, 300)


def test_a_draft_whose_recipients_were_computed_anew_is_known_by_its_people(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(60, "--rate", "60/s")
        place.run("db", "backup", str(tmp_path / "copy.db"))
        place.run("contact", "add", "+491713920001", "--set", "first_name=Bea")
        place.run("campaign", "refresh", "storm")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 30)
        process.kill()
        process.wait()
        place.run("db", "restore", "copy.db", "--yes")
        place.run("campaign", "start", "--yes", "storm", "--quiet", code=None)
        sent = Counter(entry["to"] for entry in place.seen())
        assert set(sent.values()) == {1}


@pytest.mark.parametrize("made", ["by db backup", "by cp"])
def test_a_draft_put_back_by_hand_is_refused_until_it_is_adopted(tmp_path: Path, made: str) -> None:
    with field_of(tmp_path) as place:
        left = draft_then_killed(place, made)
        for suffix in ("-wal", "-shm"):
            Path(f"{place.home}/wabcast.db{suffix}").unlink()
        shutil.copyfile(place.home / "copy.db", place.home / "wabcast.db")
        assert place.show()["status"] == "draft"
        refused(place)
        assert len(place.seen()) == left
        place.run("db", "adopt", "--yes")
        place.run("campaign", "start", "--yes", "storm", "--quiet")
        assert place.show()["messages_sent"] == 300


def test_a_restore_over_what_cannot_be_read_is_refused_until_it_is_adopted(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        copy = carry_half(place)
        for suffix in ("-wal", "-shm"):
            Path(f"{place.home}/wabcast.db{suffix}").unlink(missing_ok=True)
        (place.home / "wabcast.db").write_bytes(b"nothing that SQLite would know" * 1000)
        told = json.loads(place.run("db", "restore", str(copy), "--yes", "--json"))
        assert (told["adopted"], told["known_since"]) == (False, 0)
        adopted_then_resumed(place)


def test_a_moved_folder_goes_on_after_a_crash(tmp_path: Path) -> None:
    """On the same disk by itself; to another by a person's word, and nobody twice."""
    with field_of(tmp_path) as place:
        carry_half(place)
        (tmp_path / "there").mkdir()
        for file in tmp_path.glob("wabcast.db*"):
            file.rename(tmp_path / "there" / file.name)
        place.env["WABCAST_DB"] = str(tmp_path / "there" / "wabcast.db")
        assert "storm: completed" in place.run("run", "--quiet", code=None)
        sent = Counter(entry["to"] for entry in place.seen())
        assert set(sent.values()) == {1}


def test_a_folder_moved_to_another_disk_wants_a_person(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        carry_half(place)
        shutil.copytree(tmp_path, tmp_path / "there", ignore=shutil.ignore_patterns("there"))
        place.env["WABCAST_DB"] = str(tmp_path / "there" / "wabcast.db")
        adopted_then_resumed(place)
        everybody_once(place, 120)


def test_a_backup_of_mid_run_put_back_by_restore(tmp_path: Path) -> None:
    """What the old file knows to have left is not owed again; receipts settle what was out."""
    with field_of(tmp_path, "--latency", "50ms") as place:
        copy = carry_half(place)
        place.run("db", "restore", str(copy), "--yes")
        before = len(place.seen())
        assert place.run("run", "--quiet") == ""
        place.run("campaign", "start", "--yes", "storm", code=5)
        assert len(place.seen()) == before
        doubtful = place.show()["in_doubt"]
        place.run("webhook", "replay", "-", "--account", "shop", stdin=receipts(place.seen()))
        assert place.show()["in_doubt"] <= doubtful
        place.run("campaign", "resume", "--yes", "storm", "--quiet", code=None)
        sent = Counter(entry["to"] for entry in place.seen())
        assert set(sent.values()) == {1}
        assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]


@pytest.mark.parametrize("made", ["by db backup", "by cp"])
def test_a_copy_put_over_the_file_by_hand_wants_a_person(tmp_path: Path, made: str) -> None:
    """Nothing in it tells what has left since: that is said, and nothing leaves by itself."""
    with field_of(tmp_path) as place:
        if made == "by cp":
            place.campaign(120, "--rate", "60/s")
            process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
            place.until(process, 20)
            copy = place.home / "copy.db"
            for suffix in ("", "-wal"):
                shutil.copy2(f"{place.home}/wabcast.db{suffix}", f"{copy}{suffix}")
            place.until(process, len(place.seen()) + 40)
            process.kill()
            process.wait()
        else:
            copy = carry_half(place)
        for suffix in ("-wal", "-shm"):
            Path(f"{place.home}/wabcast.db{suffix}").unlink()
        shutil.copyfile(copy, place.home / "wabcast.db")  # the inode stays
        if made == "by cp":
            shutil.copyfile(f"{copy}-wal", place.home / "wabcast.db-wal")
        adopted_then_resumed(place)
