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


def refused_then_resumed(place: Field) -> None:
    """Nothing leaves until a person resumes; then all that is left does."""
    before = len(place.seen())
    assert "storm: paused" in place.run("run", "--quiet", code=None)
    place.run("campaign", "start", "--yes", "storm", code=5)
    assert place.run("run", "--quiet") == ""
    assert place.show()["status"] == "paused"
    assert len(place.seen()) == before
    place.run("campaign", "resume", "storm", "--yes", "--quiet", code=None)
    assert place.show()["status"] == "completed"
    assert json.loads(place.run("campaign", "audit", "storm", "--json"))["ok"]


def test_a_plain_copy_beside_a_living_run_sends_nothing(tmp_path: Path) -> None:
    with field_of(tmp_path) as place:
        place.campaign(150, "--rate", "50/s")
        process = place.spawn("campaign", "start", "--yes", "storm", "--quiet")
        place.until(process, 10)
        for suffix in ("", "-wal"):
            shutil.copy2(tmp_path / f"wabcast.db{suffix}", tmp_path / f"copy.db{suffix}")
        mine, place.env["WABCAST_DB"] = place.env["WABCAST_DB"], str(tmp_path / "copy.db")
        assert "storm: paused" in place.run("run", "--quiet", code=4)
        place.run("campaign", "start", "--yes", "storm", code=5)
        assert "copied" in place.show()["reason"]
        place.env["WABCAST_DB"] = mine
        assert process.wait(timeout=60) == 0
        sent = Counter(entry["to"] for entry in place.seen())
        assert (len(sent), set(sent.values())) == (150, {1})


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


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_folder_moved_to_another_disk_wants_a_person(tmp_path: Path, verb: str) -> None:
    with field_of(tmp_path) as place:
        carry_half(place)
        shutil.copytree(tmp_path, tmp_path / "there", ignore=shutil.ignore_patterns("there"))
        place.env["WABCAST_DB"] = str(tmp_path / "there" / "wabcast.db")
        if verb == "start":
            place.run("campaign", "start", "--yes", "storm", code=5)
            assert place.show()["status"] == "paused"
            place.run("campaign", "resume", "--yes", "storm", "--quiet", code=None)
        else:
            refused_then_resumed(place)
        sent = Counter(entry["to"] for entry in place.seen())
        assert set(sent.values()) == {1}
        assert place.show()["messages_sent"] + place.show()["in_doubt"] == 120


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
        refused_then_resumed(place)
