"""Files and environment: where the database is. Knows no store and no provider."""

from __future__ import annotations

import os
from pathlib import Path

known_secrets: set[str] = set()
"""Every secret value that this process has read; nothing that is printed may hold one."""


def database_path(flag: str | None = None) -> Path:
    """The database: `flag`, else `$WABCAST_DB`, else in the platform's user data directory."""
    named = flag or os.environ.get("WABCAST_DB")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("wabcast", appauthor=False) / "wabcast.db"
