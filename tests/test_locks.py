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
