"""Webhooks: how many posts a second are kept, how many receipts a second are applied."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    NUMBER,
    PYTHON,
    ROOT,
    WABCAST,
    Home,
    Line,
    home,
    median,
    played,
    ratio,
    run,
)
from benchmarks.webhooks import receipts

WIDTH = 128
"""Connections: WhatsApp posts many things at once."""

POST = (PYTHON, "-m", "benchmarks.webhooks", "post")
SECRET = "shh-this-signs"
AT = "2026-11-05T10:00:00.000Z"

PEOPLE = """
with recursive n (nr) as (select 1 union all select nr + 1 from n where nr < :last)
insert into contacts (id, phone, first_name, last_name, attributes, created_at, updated_at)
select nr, '+49151' || (10000000 + nr), 'Ann' || nr, 'Smith',
       json_object('city', 'Berlin', 'nr', nr), :at, :at
  from n
"""

OWED = """
with recursive n (id) as (select 1 union all select id + 1 from n where id < :last)
insert into campaign_messages (id, campaign_id, contact_id, due_at)
select id, 1, iif(id <= :people, id, null), :at from n
"""

# Not with the insert: what has left is counted where a row changes.
SENT = """
update campaign_messages
   set status = 'sent', attempts = 1, run_id = 'r', queued_at = :at, sent_at = :at,
       whatsapp_message_id = printf('wamid.HBgNNDkxNTExMDAwMDAwMBUCABEYEjk4%012d', id),
       content =
        '{"type":"text","text":{"body":"Hello Ann Smith, your order is on its way to Berlin."}}'
"""

CAMPAIGN = """
insert into campaigns (number, id, name, account_id, content, audience, status, created_at,
    updated_at, total_recipients, pending)
values (1, 'bench', 'bench', 1, '{}', '{}', 'completed', :at, :at, :count, :count)
"""


def sent(path: Path, count: int, people: int | None = None) -> None:
    """A campaign of the account 1 whose `count` messages all were sent; some to `people` that
    there still are."""
    people = count if people is None else people
    from wabcast.store import database

    db = database.connect(path)
    with database.immediate(db):
        db.execute(PEOPLE, {"last": people, "at": AT})
        db.execute(CAMPAIGN, {"at": AT, "count": count})
        db.execute(OWED, {"at": AT, "people": people, "last": count})
        db.execute(SENT, {"at": AT})
    db.close()


def inbox_of(path: Path, count: int, each: int) -> None:
    """`count` receipts in the inbox, `each` of them in a body."""
    from wabcast.store import database, inbox

    db = database.connect(path)
    with database.immediate(db):
        for first in range(1, count + 1, each):
            inbox.keep(db, 1, receipts(first, each), at=AT)
    db.close()


def applied(count: int, each: int) -> dict[str, Any]:
    """A process of its own applies `count` receipts; what it says of it."""
    with home() as place:
        account(place)
        sent(place.db, count)
        inbox_of(place.db, count, each)
        told: dict[str, Any] = json.loads(
            run([PYTHON, "-m", "benchmarks.webhooks", "apply", str(place.db)]).out
        )
    if told["changed"] != count:
        raise RuntimeError(f"{told} is not {count} receipts")
    return told


def beside(count: int, turns: int, rate: str, posts: int) -> tuple[float, float]:
    """How much of its speed, and of its CPU, a run has while `posts` times 100 receipts a second
    come in: those of the receiver on the same file against those of a bare app."""
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    env = os.environ | {"BENCH_TOKEN": "a-token-of-no-one"}
    with home() as place, played() as world:
        place.account(world.url)
        place.wabcast("account", "edit", "bench", "--app-secret", signs(place))
        sent(place.db, 2 * count * turns, people=count)
        ours = [WABCAST, "--db", str(place.db), "webhook", "serve", "--port", "0", "--quiet"]
        with (
            serving([PYTHON, "-m", "benchmarks.webhooks", "bare"], env) as (bare, _),
            serving(ours, env) as (receiver, _),
        ):
            for turn in range(turns):
                for name, url in (("bare", bare), ("receiver", receiver)):
                    place.campaign(f"{name}-{turn}", rate=rate)
                    world.reset()
                    first = 1 + 2 * count * turn
                    told = (first, 2 * count // 100, 100, 4, posts)
                    poster = subprocess.Popen(
                        [*POST, f"{url}/webhooks/bench", SECRET, *map(str, told)],
                        cwd=ROOT,
                        stdout=subprocess.DEVNULL,
                    )
                    spent = place.wabcast("campaign", "start", f"{name}-{turn}", "--yes", "--quiet")
                    rates[name].append(world.rate())
                    cpu[name].append(spent.cpu)
                    if poster.wait() != 0:
                        raise RuntimeError("the receipts were not posted")
    return ratio(rates["receiver"], rates["bare"]), ratio(cpu["receiver"], cpu["bare"])


def signs(place: Home) -> str:
    path = place.folder / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return f"file:{path}"


def account(place: Home) -> None:
    place.wabcast(
        *("account", "add", "bench", "--provider", "cloud", "--phone-number-id", NUMBER),
        *("--token", "env:BENCH_TOKEN", "--app-secret", signs(place)),
    )


@contextmanager
def serving(args: Sequence[str], env: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its URL and its pid."""
    child = subprocess.Popen(
        list(args), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip(), child.pid
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]  # it has one, see above


def cpu_of(pid: int) -> float:
    """Seconds of the processor that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def posted(url: str, pid: int, first: int, count: int, *, rate: int = 0) -> dict[str, Any]:
    before = cpu_of(pid)
    command = [*POST, f"{url}/webhooks/bench", SECRET]
    spent = run([*command, *map(str, (first, count, 1, WIDTH, rate))])
    told: dict[str, Any] = json.loads(spent.out)
    if told["ok"] != count:
        raise RuntimeError(f"{told}: not every post was answered with 200")
    return {**told, "rate": count / told["seconds"], "cpu": cpu_of(pid) - before}


def measure(count: int, turns: int) -> list[Line]:
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    env = os.environ | {"BENCH_TOKEN": "a-token-of-no-one"}
    with home() as place:
        account(place)
        sent(place.db, count * (turns + 2))
        ours = [WABCAST, "--db", str(place.db), "webhook", "serve", "--port", "0", "--quiet"]
        with (
            serving([PYTHON, "-m", "benchmarks.webhooks", "bare"], env) as (bare, bare_pid),
            serving(ours, env) as (receiver, receiver_pid),
        ):
            for turn in range(turns):
                first = 1 + turn * count
                for name, url, pid in (
                    ("bare", bare, bare_pid),
                    ("receiver", receiver, receiver_pid),
                ):
                    told = posted(url, pid, first, count)
                    rates[name].append(told["rate"])
                    cpu[name].append(told["cpu"] / count * 10_000)
            paced = posted(receiver, receiver_pid, 1 + turns * count, 2 * count, rate=2_000)
    slowed = [beside(count, turns, *how) for how in (("max", 40), ("500/s", 10))]
    each = {size: [applied(5 * count, size) for _ in range(turns)] for size in (1000, 1)}

    def told_of(key: str) -> str:
        return f"{median(rates[key]):,.0f}/s, {median(cpu[key]):.1f} s of CPU for 10,000"

    lines = [
        Line("", "posts to a bare Starlette app", told_of("bare")),
        Line("", "posts to the receiver, one receipt each", told_of("receiver")),
        Line(
            "receiver/starlette",
            "  against bare Starlette",
            "",
            ratio(rates["receiver"], rates["bare"]),
            0.5,
        ),
        Line(
            "",
            f"posts at 2,000/s, {2 * count:,} of them",
            f"{paced['rate']:,.0f}/s, the slowest answered in {paced['slowest'] * 1000:.0f} ms",
        ),
    ]
    for what, key, (kept, spent) in zip(
        ("unpaced, with 4,000 receipts a second", "at 500/s, with 1,000 receipts a second"),
        ("max", "500"),
        slowed,
        strict=True,
    ):
        lines.append(
            Line(
                f"beside@{key}",
                f"sending {what}",
                f"{spent:.2f} of the CPU; of the speed with receipts posted elsewhere",
                kept,
                0.9,
            )
        )
    for size, found in each.items():
        rate = median([5 * count / one["seconds"] for one in found])
        spent = median([one["cpu"] for one in found]) / (5 * count) * 10_000
        lines.append(
            Line(
                f"applied@{size}",
                f"receipts applied, {size:,} in a post",
                f"{rate:,.0f}/s, {spent:.2f} s of CPU for 10,000",
                rate / 30_000,
                1.0,
            )
        )
    return lines
