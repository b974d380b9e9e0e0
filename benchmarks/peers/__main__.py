"""`make bench-peers`: the same messages sent by wabcast and by others, in one table.

    python -m benchmarks.peers [--count N] [--only WORD]

Each is run twice: once to its end, and once killed by SIGKILL (with all its processes, but not
its Redis or PostgreSQL) when half is sent, then started again. What cannot be installed here is
left out with a word.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import WABCAST, Home, Played, machine, played
from benchmarks.peers.race import Command, Peer, carry
from benchmarks.peers.stacks import Missing, Stacks

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Field:
    """Where they run: a folder, what they stand on, the server they all post to, and how many."""

    folder: Path
    stacks: Stacks
    world: Played
    count: int


def wabcast(field: Field) -> Peer:
    def home(run: str) -> Home:
        return Home(field.folder / f"wabcast-{run}")

    def command(run: str, again: bool) -> Command:
        place = home(run)
        if not again:
            place.folder.mkdir()
            place.account(field.world.url)
            place.wabcast("contact", "import", str(place.people(field.count)), "--quiet")
            place.campaign("race")
        env = {"WABCAST_DB": str(place.db), "BENCH_TOKEN": "a-token-of-no-one"}
        return [WABCAST, "campaign", "start", "race", "--yes", "--quiet"], env

    def tell(run: str) -> str:
        shown = json.loads(home(run).wabcast("campaign", "show", "race", "--json").out)
        return f", {shown['in_doubt']} in doubt and told by name"

    return Peer("wabcast, 50 in flight", command, tell=tell)


def queue(field: Field, name: str, library: str, client: str, workers: int) -> Peer:
    node, stacks = field.stacks.node(), field.stacks

    def command(run: str, _again: bool) -> Command:
        script = [str(HERE / "queue.js"), run, library, client, str(workers), str(field.count)]
        where = [field.world.url, stacks.redis(), stacks.postgres()]
        return ["node", *script, *where], {"NODE_PATH": str(node / "node_modules")}

    stacks.redis(), stacks.postgres()
    return Peer(name, command)


def celery(field: Field) -> Peer:
    python, redis = field.stacks.python(), field.stacks.redis()

    def command(run: str, again: bool) -> Command:
        worker = f"exec {python} -m celery -A tasks worker --concurrency 10 --loglevel ERROR"
        fill = "" if again else f"{python} tasks.py {field.count} && "
        env = {"PEER_REDIS": f"{redis}/{1 + (run == 'killed')}", "PEER_URL": field.world.url}
        return ["sh", "-c", f"cd {HERE} && {fill}{worker}"], env

    return Peer("Celery 5 on Redis, 10 processes, requests", command, idle=20.0)


def plain(field: Field) -> Peer:
    python = field.stacks.python()

    def command(run: str, _again: bool) -> Command:
        file = str(field.folder / f"plain-{run}.db")
        return [python, str(HERE / "plain.py"), file, str(field.count), field.world.url], {}

    return Peer("a loop of requests, a commit a row", command)


def shell(field: Field) -> Peer:
    def command(_run: str, _again: bool) -> Command:
        return ["sh", str(HERE / "shell.sh"), str(field.count), field.world.url], {}

    return Peer("xargs -P 10 curl (writes nothing down)", command)


PEERS: dict[str, Callable[[Field], Peer]] = {
    "wabcast": wabcast,
    "seed": lambda field: queue(
        field,
        "the seed: Bull 4 on Redis, 10 workers, axios, PostgreSQL",
        *("bull", "axios", 10),
    ),
    "bull": lambda field: queue(
        field, "Bull 4, 50 workers, undici, PostgreSQL", "bull", "undici", 50
    ),
    "bullmq": lambda field: queue(
        field, "BullMQ 5, 50 workers, undici, PostgreSQL", "bullmq", "undici", 50
    ),
    "celery": celery,
    "plain": plain,
    "shell": shell,
}


def race(field: Field, peer: Peer) -> str:
    """A row of the table."""
    world, count, services = field.world, field.count, field.stacks.services
    world.reset()
    took = carry(peer, peer.command("whole", False), world, count, services)
    told = world.stats()
    rate = "" if told["people"] < count else f"{world.rate():,.0f}"
    world.reset()
    carry(peer, peer.command("killed", False), world, count, services, kill_at=count // 2)
    carry(peer, peer.command("killed", True), world, count, services)
    after = world.stats()
    killed = f"{count - after['people']:,} not sent, {after['twice']:,} twice{peer.tell('killed')}"
    cpu = took.cpu / count * 10_000
    return f"| {peer.name} | {rate} | {cpu:.1f} | {took.memory:,.0f} MB | {killed} |"


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    asked.add_argument("--count", type=int, default=20_000)
    asked.add_argument("--only", choices=PEERS, action="append")
    said = asked.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="wabcast-peers-") as folder,
        played() as world,
    ):
        place = Path(folder)
        place.chmod(0o755)  # PostgreSQL is somebody else
        stacks = Stacks(place)
        try:
            for name in said.only or PEERS:
                try:
                    field = Field(place, stacks, world, said.count)
                    rows.append(race(field, PEERS[name](field)))
                    print(rows[-1], file=sys.stderr, flush=True)
                except Missing as exc:
                    print(f"{name} is left out: {exc}", file=sys.stderr, flush=True)
        finally:
            stacks.close()
    print(f"{machine()}; {said.count:,} messages\n")
    print(
        "| who | messages a second | CPU seconds for 10,000 | peak memory | killed in the middle |"
    )
    print("|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
