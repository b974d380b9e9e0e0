"""The lock beside the database: one owner, by whatever name the file is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from make import Make

from wabcast import locks
from wabcast.errors import Busy


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
    assert locks.noted(db_path, campaign) == 0
    for slot in (1_800_000_000_000_000, 7, 0):
        locks.note(db_path, campaign, slot)
        assert locks.noted(db_path, campaign) == slot
    (note,) = locks.folder_of(db_path).glob("*.slot")
    assert note.stat().st_mode & 0o777 == 0o600
    note.write_bytes(b"torn")
    assert locks.noted(db_path, campaign) == 0
