"""A campaign for very many people: made, checked, begun, killed, resumed, looked at.

`python -m benchmarks.campaigns bare|own ...` are parts that need a process of their own.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import (
    PYTHON,
    ROOT,
    WABCAST,
    Home,
    Line,
    Played,
    Spent,
    home,
    median,
    played,
    ratio,
    run,
)

FULL, QUICK = (200_000, 3), (20_000, 1)
"""Recipients and turns; the claim is of `--count 1000000 --turns 5`."""

SMALL = 10_000
KILL_AFTER = 2.0
"""Seconds from the first request on."""

_ENDED = os.WEXITED | os.WNOWAIT | os.WNOHANG

_OWN = (PYTHON, "-m", "benchmarks.campaigns", "own")

RESUMED = "seconds from `resume` after a kill to its first request"


def bare(path: str) -> None:
    """Print the seconds that as many rows take in a table with the same indexes; undo it."""
    from wabcast.store.database import connect

    db = connect(Path(path))
    made = [
        row[0].replace("campaign_messages", "bare")
        for row in db.execute(
            "select sql from sqlite_schema where tbl_name = 'campaign_messages'"
            " and sql is not null and type in ('table', 'index') order by type desc"
        )
    ]
    db.execute("begin immediate")
    for statement in made:
        db.execute(statement)
    began = time.monotonic()
    db.execute(
        "insert into bare (campaign_id, contact_id, due_at)"
        " select 1, id, '1970-01-01T00:00:00.000Z' from contacts"
    )
    print(time.monotonic() - began)
    db.execute("rollback")


def own(path: str, *args: str) -> None:
    """Print the milliseconds of CPU that a command takes when all is imported."""
    from wabcast.__main__ import main

    os.environ["WABCAST_DB"] = path
    spent = []
    for _ in range(3):
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(args)
        spent.append((time.process_time() - began) * 1000)
    print(min(spent))


def unread(place: Home, *args: str) -> Spent:
    """A command whose output nobody keeps: what we hold when we fork counts as the child's."""
    silent = ("sh", "-c", 'exec "$0" "$@" > /dev/null', WABCAST)
    return run([*silent, *args], env={"WABCAST_DB": str(place.db)})


# Sent at 1000/s, delivered within some seconds, read within the day. Whoever is left gets no more.
HEARD = """
update campaign_messages as m
   set status = 'read', attempts = 1, pricing = 'marketing/regular',
       sent_at = strftime('%Y-%m-%dT%H:%M:%fZ', :at, ((m.id - :first) / 1000.0) || ' seconds'),
       delivered_at = strftime('%Y-%m-%dT%H:%M:%SZ', :at,
           ((m.id - :first) / 1000.0 + m.id * 7919 % 90) || ' seconds'),
       read_at = strftime('%Y-%m-%dT%H:%M:%SZ', :at,
           ((m.id - :first) / 1000.0 + 90 + m.id * 7919 % 86400) || ' seconds')
  from campaigns c where c.number = m.campaign_id and c.name = :name and m.id >= :first
"""
FIRST = """
select min(m.id) from campaign_messages m join campaigns c on c.number = m.campaign_id
 where c.name = :name and m.status = 'pending'
"""


def heard(place: Home, name: str) -> None:
    """Of all who were still owed a message there is news, as receipts would have brought it."""
    from wabcast.clock import Clock, text
    from wabcast.store.database import connect, immediate

    db = connect(place.db)
    with immediate(db):
        first = db.execute(FIRST, {"name": name}).fetchone()[0]
        db.execute(HEARD, {"name": name, "first": first, "at": text(Clock().now())[:19]})
    db.close()


def begun(place: Home, world: Played, verb: str, name: str) -> tuple[float, Spent]:
    """Start or resume, killed a moment after its first request; seconds until that one."""
    world.reset()
    began = time.monotonic()
    child = subprocess.Popen(
        [WABCAST, "campaign", verb, name, "--yes", "--quiet"],
        env={**os.environ, "WABCAST_DB": str(place.db), "BENCH_TOKEN": "a-token-of-no-one"},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # Not by `poll`, which would take its account of time and memory from the one who waits below.
    while not world.stats()["messages"] and not os.waitid(os.P_PID, child.pid, _ENDED):
        time.sleep(0.02)
    time.sleep(KILL_AFTER)
    os.kill(child.pid, signal.SIGKILL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    first = world.stats()["first"]
    if not first:
        raise RuntimeError(f"{verb} {name} sent nothing: exit {child.returncode}")
    cpu = used.ru_utime + used.ru_stime
    return first - began, Spent(first - began, cpu, used.ru_maxrss / 1024, child.returncode, "")


def measure(count: int, turns: int) -> list[Line]:
    with home() as few, home() as many, played() as world:
        for place, people in ((few, SMALL), (many, count)):
            place.account(world.url)
            place.wabcast("contact", "import", str(place.people(people)), "--quiet")
        before = many.db.stat().st_size
        created: list[Spent] = []
        inserted: list[float] = []
        for turn in range(turns):
            created.append(many.campaign(f"made-{turn}"))
            if not turn:
                size = (many.db.stat().st_size - before) / count
            spent = run([PYTHON, "-m", "benchmarks.campaigns", "bare", str(many.db)])
            inserted.append(float(spent.out))
            if turn:
                many.wabcast("campaign", "delete", f"made-{turn}", "--yes", "--quiet")
        grown = {"create": created[0].memory / few.campaign("made-0").memory}

        def both(name: str, step: Callable[[Home], Spent]) -> Spent:
            large = step(many)
            grown[name] = large.memory / step(few).memory
            return large

        found = both("check", lambda of: of.wabcast("campaign", "check", "made-0", "--quiet"))
        checked, cpu = count / found.seconds, found.cpu / count * 1_000_000
        both("start", lambda of: begun(of, world, "start", "made-0")[1])
        resumed = begun(many, world, "resume", "made-0")[0]
        for place in (few, many):
            heard(place, "made-0")
        both("recipients", lambda of: unread(of, "campaign", "recipients", "made-0", "--csv"))
        both("report", lambda of: unread(of, "campaign", "report", "made-0", "--json"))
        looks = {
            verb: float(run([*_OWN, str(many.db), "campaign", verb, "made-0", "--json"]).out)
            for verb in ("show", "stats", "pause")
        }

    seconds = [one.seconds for one in created]
    told = f"{median(seconds):.1f} s, the bare insert {median(inserted):.1f} s"
    lines = [
        Line("", f"a campaign for {count:,} is created", told),
        Line(
            "create/insert", "  against the insert", "", ratio(seconds, inserted), 4.0, more=False
        ),
        Line("campaign/bytes", "  bytes a recipient, before content", "", size, 400, more=False),
        Line(
            "",
            "all of it checked, every message rendered",
            f"{checked:,.0f}/s, {cpu:.0f} s of CPU for 1,000,000",
        ),
        Line("check/50000", "  against 50,000 a second", "", checked / 50_000, 1.0),
        Line("resume/seconds", f"  {RESUMED}", "", resumed, 2.0, more=False),
    ]
    lines += [
        Line(f"memory/{name}", f"memory of {name} against {SMALL:,}", "", times, 1.15, more=False)
        for name, times in grown.items()
    ]
    lines += [
        Line(f"own/{verb}", f"`campaign {verb}`, ms of its own work", "", ms, 60, more=False)
        for verb, ms in looks.items()
    ]
    return lines


PARTS = {"bare": bare, "own": own}

if __name__ == "__main__":
    PARTS[sys.argv[1]](*sys.argv[2:])
