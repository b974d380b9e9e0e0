"""The lock beside the database: one owner, by whatever name the file is called."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from make import Make

from wabcast import locks
from wabcast.campaign import Campaign
from wabcast.errors import Busy

Looks = Callable[[], tuple[int, int]]
"""Ends the lookers; how often they looked, and how often they saw an owner."""


def test_who_comes_by_a_symbolic_link_meets_the_owner(make: Make, db_path: Path) -> None:
    campaign = make.campaign()
    aside = db_path.parent / "aside"
    aside.mkdir()
    link = aside / "other.db"
    link.symlink_to(db_path)
    with locks.held(db_path, campaign):
        assert locks.is_held(link, campaign)
        with pytest.raises(Busy), locks.held(link, campaign):
            pass
    assert not locks.is_held(link, campaign)


def test_how_far_a_campaign_has_come_is_noted_beside_its_lock(make: Make, db_path: Path) -> None:
    campaign = make.campaign()
    assert locks.noted(db_path, campaign.id) == 0
    for slot in (1_800_000_000_000_000, 7, 0):
        locks.note(db_path, campaign, slot)
        assert locks.noted(db_path, campaign.id) == slot
    (note,) = locks.folder_of(db_path).glob("*.slot")
    assert note.stat().st_mode & 0o777 == 0o600
    note.write_bytes(b"torn")
    assert locks.noted(db_path, campaign.id) == 0


LOOKERS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from wabcast import locks

campaign = SimpleNamespace(id=sys.argv[2], name="spring")
seen = looks = 0
print("ready", flush=True)
while not Path(sys.argv[3]).exists():
    for _ in range(50):
        looks += 1
        seen += locks.is_held(Path(sys.argv[1]), campaign)
print(looks, seen)
"""


@pytest.fixture
def look_on(db_path: Path, tmp_path: Path) -> Iterator[Callable[[Campaign, int], Looks]]:
    """So many processes that do nothing but look whether a campaign is held."""
    enough = tmp_path / "enough"
    children: list[subprocess.Popen[str]] = []

    def begin(campaign: Campaign, count: int) -> Looks:
        command = [sys.executable, "-c", LOOKERS, str(db_path), campaign.id, str(enough)]
        children.extend(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)
        )
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        return end

    def end() -> tuple[int, int]:
        enough.touch()
        told = [child.communicate()[0].split() for child in children]
        return sum(int(looks) for looks, _ in told), sum(int(seen) for _, seen in told)

    yield begin
    for child in children:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def test_many_who_look_see_no_owner_and_keep_nobody_from_starting(
    make: Make, db_path: Path, look_on: Callable[[Campaign, int], Looks]
) -> None:
    campaign = make.campaign()
    with locks.held(db_path, campaign):
        pass  # the file is there
    end = look_on(campaign, 8)
    began = time.monotonic()
    mine = 0
    while time.monotonic() < began + 1.0:
        mine += locks.is_held(db_path, campaign)
    looks, seen = end()
    assert looks > 1000
    assert (seen, mine) == (0, 0)


def test_a_start_is_not_refused_because_others_look(
    make: Make, db_path: Path, look_on: Callable[[Campaign, int], Looks]
) -> None:
    campaign = make.campaign()
    with locks.held(db_path, campaign):
        pass
    end = look_on(campaign, 8)
    for _ in range(20):
        with locks.held(db_path, campaign):
            assert locks.is_held(db_path, campaign)
    assert end()[0] > 0


def test_a_look_leaves_nothing_behind(make: Make, db_path: Path) -> None:
    assert not locks.is_held(db_path, make.campaign())
    assert not db_path.with_name(db_path.name + ".locks").exists()
