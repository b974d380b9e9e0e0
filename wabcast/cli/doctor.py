"""`wabcast doctor`: what is wrong, and how to mend it. Looks, and changes nothing.

A check is a function that yields findings; one that breaks is a finding itself, so that a
doctor always says something.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wabcast.cli import Verbs, output
from wabcast.errors import Exit, WabcastError

if TYPE_CHECKING:
    from wabcast.store.database import Connection

app = Verbs()

SOUND_SQLITE = (3, 51, 3)
"""Libraries before it can corrupt a WAL database that several processes write (DESIGN, Data)."""

MAGIC = b"SQLite format 3\0"

LITTLE_DISK = 500_000_000
"""Bytes: a million recipients take about as much."""


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


OVERDUE = timedelta(minutes=5)
"""What is due for longer has no runner: cron looks every minute."""

PATIENCE = 5.0
"""Seconds for an account's answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    check: str
    level: Level
    message: str
    hint: str = ""


@app.verb("doctor", json=True)
def doctor() -> Exit:
    """Look for what is wrong and say how to mend it: exit 0 if nothing fails, 1 otherwise."""
    found = list(examine(output.options().db))
    failed = any(finding.level is Level.FAIL for finding in found)
    if output.options().json:
        findings = [
            {"check": f.check, "level": f.level.value, "message": f.message, "hint": f.hint}
            for f in found
        ]
        output.emit({"ok": not failed, "findings": findings})
    else:
        for finding in found:
            output.line(f"{finding.level:<4}  {finding.check}: {finding.message}")
            if finding.hint:
                output.line(f"      -> {finding.hint}")
    return Exit.ERROR if failed else Exit.DONE


def examine(path: Path) -> Iterator[Finding]:
    """Every finding about this machine and the database at `path`."""
    for check in (_python, _sqlite, _clock, _file, _disk):
        yield from _guarded(check.__name__.strip("_"), partial(check, path))
    if not path.exists() or path.stat().st_size == 0:
        return
    from wabcast.store.database import connect_read_only

    try:
        opened = connect_read_only(path)
    except WabcastError as exc:
        yield Finding("pages", Level.FAIL, exc.message, exc.hint)
        return
    with closing(opened) as db:
        sound = list(_guarded("pages", partial(_pages, db)))
        yield from sound
        if any(finding.level is Level.FAIL for finding in sound):
            return
        for look in (_copy, _secrets, _numbers, _running, _overdue, _waiting, _in_doubt):
            yield from _guarded(look.__name__.strip("_"), partial(look, db))


def _guarded(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except WabcastError as exc:
        yield Finding(name, Level.FAIL, exc.message, exc.hint)
    except Exception as exc:  # noqa: BLE001  # a sick machine must not silence its doctor
        yield Finding(name, Level.FAIL, f"{type(exc).__name__}: {exc}")


def _python(path: Path) -> Iterator[Finding]:
    del path
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", Level.OK, f"Python {version} on {sys.platform}")


def _sqlite(path: Path) -> Iterator[Finding]:
    del path
    from pysqlite3 import sqlite_version, sqlite_version_info

    if sqlite_version_info >= SOUND_SQLITE:
        yield Finding("sqlite", Level.OK, f"SQLite {sqlite_version}")
    else:
        wanted = ".".join(map(str, SOUND_SQLITE))
        yield Finding(
            "sqlite",
            Level.FAIL,
            f"SQLite {sqlite_version} can lose data that several processes write",
            f"pip install --upgrade pysqlite3 (SQLite {wanted} or later)",
        )


def _clock(path: Path) -> Iterator[Finding]:
    from wabcast import clock, config

    now = clock.Clock().now()
    # A clock that stands before this program was written signs, schedules and caps wrongly.
    if now < datetime(2026, 1, 1, tzinfo=UTC):
        yield Finding("clock", Level.FAIL, f"it says {clock.text(now)}", "set it, as with NTP")
    elif path.exists() and path.stat().st_mtime > now.timestamp() + 60:
        yield Finding(
            "clock", Level.WARN, "the database was written in the future", "set it, as with NTP"
        )
    else:
        yield Finding("clock", Level.OK, f"{clock.text(now)}, zone {config.machine_zone().key}")


def _file(path: Path) -> Iterator[Finding]:
    from wabcast.store.database import NETWORK_FILE_SYSTEMS, file_system

    if not path.exists():
        yield Finding(
            "file", Level.WARN, f"no database at {path} yet", "the first command makes it"
        )
        return
    with path.open("rb") as file:
        if file.read(len(MAGIC)) not in (MAGIC, b""):
            yield Finding(
                "file", Level.FAIL, f"{path} is not a database", "name another one with --db"
            )
            return
    for end in ("", "-wal", "-shm"):
        part = path.with_name(path.name + end)
        mode = stat.S_IMODE(part.stat().st_mode) if part.exists() else 0
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(
                "file", Level.WARN, f"{part} is open to others ({mode:04o})", f"chmod 600 {part}"
            )
    if not os.access(path, os.W_OK) or not os.access(path.absolute().parent, os.W_OK):
        yield Finding(
            "file", Level.FAIL, f"{path} or its folder cannot be written", "check who owns them"
        )
    kind = file_system(path.absolute().parent.resolve())
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding(
            "file",
            Level.FAIL,
            f"{path} is on a network file system ({kind}), where SQLite loses data",
            "keep it on a local disk: --db FILE or WABCAST_DB",
        )
    size = path.stat().st_size
    yield Finding("file", Level.OK, f"{path}, {size:,} bytes{f', on {kind}' if kind else ''}")


def _disk(path: Path) -> Iterator[Finding]:
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < LITTLE_DISK:
        yield Finding("disk", Level.WARN, f"only {free // 1_000_000} MB are free", "make room")
    else:
        yield Finding("disk", Level.OK, f"{free / 1e9:.1f} GB are free")


def _pages(db: Connection) -> Iterator[Finding]:
    from wabcast.store.database import SCHEMA
    from wabcast.store.soundness import PUT_BACK, quick_findings

    found = quick_findings(db)
    for finding in found:
        yield Finding("pages", Level.FAIL, finding, PUT_BACK)
    if found:
        return
    mode = db.execute("pragma journal_mode").fetchone()[0]
    version = db.execute("pragma user_version").fetchone()[0]
    if mode != "wal":
        yield Finding("pages", Level.WARN, f"journal mode {mode}", "any command sets it to wal")
    if version > SCHEMA:
        yield Finding(
            "pages", Level.FAIL, f"schema {version} is newer than {SCHEMA}", "upgrade wabcast"
        )
    elif version < SCHEMA:
        yield Finding(
            "pages", Level.FAIL, f"schema {version} of {SCHEMA}", "any other command migrates it"
        )
    else:
        yield Finding("pages", Level.OK, f"sound at a quick look, schema {version}")


def _copy(db: Connection) -> Iterator[Finding]:
    from wabcast import clone_guard

    if why := clone_guard.doubt(db):
        yield Finding("copy", Level.WARN, f"nothing starts: this file {why}", clone_guard.ADOPT)


def _secrets(db: Connection) -> Iterator[Finding]:
    from wabcast import config
    from wabcast.store import accounts

    rows = list(accounts.every(db))
    if not rows:
        yield Finding("accounts", Level.WARN, "there is none yet", "`wabcast account add`")
    for account in rows:
        wrong = False
        for source in account.secrets.values():
            try:
                config.resolve(source)
            except WabcastError as exc:
                wrong = True
                yield Finding(f"account {account.name}", Level.FAIL, exc.message, exc.hint)
        if account.halted_reason:
            wrong = True
            yield Finding(
                f"account {account.name}",
                Level.WARN,
                f"halted: {account.halted_reason}",
                f"wabcast account check {account.name}",
            )
        if not wrong:
            kept = f"{len(account.secrets)} secrets can be read"
            yield Finding(f"account {account.name}", Level.OK, f"{account.provider}, {kept}")


def _numbers(db: Connection) -> Iterator[Finding]:
    """What WhatsApp says of each account; one whose secrets are lost was told of above."""
    from wabcast.cli.loop import run_loop
    from wabcast.health import ask, is_final
    from wabcast.store import accounts

    for account in accounts.every(db):
        try:
            health = run_loop(ask(account, patience=PATIENCE))
        except WabcastError:
            continue
        level = Level.WARN if health.ok or not is_final(health) else Level.FAIL
        for problem in health.problems:
            yield Finding(f"number {account.name}", level, problem)
        if not health.problems:
            known = (health.status, health.quality.replace("UNKNOWN", ""), health.tier)
            told = ", ".join(filter(None, known))
            yield Finding(f"number {account.name}", Level.OK if health.ok else level, told)


def _running(db: Connection) -> Iterator[Finding]:
    from wabcast import control
    from wabcast.campaign import CampaignStatus
    from wabcast.store import campaigns

    names, path = [], output.options().db
    for campaign in campaigns.listed(db, CampaignStatus.RUNNING):
        if control.is_abandoned(db, path, campaign):
            told, _, way_out = control.GONE.format(campaign.name).partition("; go on with: ")
            yield Finding("running", Level.WARN, f"{campaign.name}: {told}", way_out)
        else:
            names.append(campaign.name)
    told = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    yield Finding("running", Level.OK, told or "no campaign runs")


def _overdue(db: Connection) -> Iterator[Finding]:
    """What is due and nobody began. Where all five places are taken it only waits for its turn."""
    from wabcast import locks
    from wabcast.campaign import CampaignStatus
    from wabcast.cli.run import AT_ONCE
    from wabcast.clock import Clock
    from wabcast.store import campaigns, schedules

    late = schedules.overdue(db, Clock().now() - OVERDUE)
    running = campaigns.listed(db, CampaignStatus.RUNNING)
    if sum(locks.is_held(output.options().db, campaign) for campaign in running) >= AT_ONCE:
        late = []
    for campaign in late:
        yield Finding(
            "schedule",
            Level.FAIL,
            f"{campaign.name} was due at {campaign.resume_at or campaign.scheduled_at}, "
            "and no runner has begun it",
            "have cron do it every minute: * * * * * wabcast run --quiet; or: wabcast run --watch",
        )
    if not late:
        yield Finding("schedule", Level.OK, "nothing is overdue")


def _waiting(db: Connection) -> Iterator[Finding]:
    from wabcast.store import waiting

    found = waiting.listed(db)
    for campaign in found:
        yield Finding(
            "waiting",
            Level.WARN,
            f"{campaign.name} has waited for a person since {campaign.paused_at}: "
            f"{campaign.reason}",
            f"wabcast campaign resume '{campaign.name}', or: campaign cancel '{campaign.name}'",
        )
    if not found:
        yield Finding("waiting", Level.OK, "no campaign needs a person")


def _in_doubt(db: Connection) -> Iterator[Finding]:
    from wabcast.store.soundness import in_doubt

    counts = in_doubt(db)
    for name, count in counts:
        yield Finding(
            "in doubt",
            Level.WARN,
            f"{count} messages of {name} may have left",
            f"wait for webhooks, or decide: wabcast campaign settle {name} --as sent",
        )
    if not counts:
        yield Finding("in doubt", Level.OK, "nobody")
