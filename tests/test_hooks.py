from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast import hooks
from wabcast.clock import Clock
from wabcast.errors import Busy, NotFound, Refused
from wabcast.events import Event
from wabcast.store import events
from wabcast.store import hooks as store
from wabcast.store.database import OperationalError, connect
from wabcast.store.hooks import Hook
from wabcast.testing import Way, answers, cuts, play, says_nothing

SECRET = "sesame sesame"
OK = answers(200, b"thanks")


def tell(db: Connection, name: str = "campaign:started", **data: object) -> int:
    return events.add(db, Event(name, "c-1", data), at="2026-11-05T10:00:00.000Z")


def add(db: Connection, url: str, key: str = "k1", **more: Any) -> Hook:
    given = {"secret": None, "patterns": (), "allow_private": True, "since": 0} | more
    return store.add(db, url, key=key, at="t", **given)[0]


@dataclass
class Heard:
    """A receiver that keeps what it was posted; `answer` says what it does with a delivery."""

    answer: Callable[[int], Way] = lambda _: OK
    url: str = ""
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ids(self) -> list[int]:
        return [json.loads(body)["id"] for _, body in self.posts]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.posts) < count:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def receiver(answer: Callable[[int], Way] = lambda _: OK) -> AsyncIterator[Heard]:
    heard = Heard(answer)

    async def way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = played.requests[-1].partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
        heard.posts.append(({name.lower(): value for name, _, value in lines}, body))
        heard.news.set()
        await heard.answer(len(heard.posts))(reader, writer)

    async with play(way) as played:
        heard.url = f"{played.base_url}/in"
        yield heard


@pytest.fixture
def once(db_path: Path) -> Callable[..., Awaitable[hooks.Outcome]]:
    async def run(**more: Any) -> hooks.Outcome:
        return await hooks.deliver_once(db_path, StillClock(), asyncio.Event(), **more)

    return run


Once = Callable[..., Awaitable[hooks.Outcome]]


async def test_a_delivery_is_a_line_of_the_log_signed_and_named(
    db: Connection, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    tell(db, who="Zoë 🎉 \u202e \ud800")
    async with receiver() as heard:
        add(db, heard.url, secret="env:HOOK_SECRET")
        assert await once() == hooks.Outcome(1, [])
    ((sent, body),) = heard.posts
    assert json.loads(body) == next(events.since(db, 0))
    assert sent["content-type"] == "application/json"
    assert sent["x-wabcast-event"] == "campaign:started"
    assert sent["x-wabcast-delivery"] == "k1-1"
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert sent["x-wabcast-signature"] == f"sha256={digest}"


async def test_in_order_each_once_and_only_what_is_wanted(db: Connection, once: Once) -> None:
    for number in range(250):
        tell(db, "campaign:paused" if number % 2 else "message:sent")
    async with receiver() as heard:
        add(db, heard.url, patterns=("campaign:*", "account:halted"))
        assert (await once()).delivered == 125
        assert (await once()).delivered == 0
        tell(db, "message:sent")
        last = tell(db, "account:halted")
        assert (await once()).delivered == 1
    assert heard.ids == [*range(2, 251, 2), last]
    assert "x-wabcast-signature" not in heard.posts[0][0]


@pytest.mark.parametrize(
    "bad",
    [
        answers(500, b""),
        answers(404, b""),
        answers(302, b"", "Location: http://127.0.0.1:1/"),
        answers(200, b" " * 1_000_001),
        cuts,
    ],
    ids=["500", "404", "302", "endless", "cut"],
)
async def test_what_was_not_taken_is_tried_again_before_what_comes_after(
    db: Connection, once: Once, bad: Way
) -> None:
    said: list[str] = []
    first, second = tell(db), tell(db)
    async with receiver(lambda count: bad if count <= 2 else OK) as heard:
        add(db, heard.url)
        assert await once(say=said.append) == hooks.Outcome(2, [])
    assert heard.ids == [first, first, first, second]
    assert len({sent["x-wabcast-delivery"] for sent, _ in heard.posts[:3]}) == 1
    assert said[0].startswith("hook 1 is not told of event 1: 127.0.0.1")
    assert said[1:] == ["hook 1 answers again"]
    hook = store.get(db, "1")
    assert (hook.failures, hook.last_error, hook.last_event_id) == (0, None, second)


async def test_one_that_never_answers_is_left_behind_and_holds_up_nobody(
    db: Connection, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wabcast.providers.outward.TIMEOUT", 1.0)
    tell(db)
    async with receiver(lambda _: says_nothing) as silent, receiver() as heard:
        add(db, silent.url, "k1")
        add(db, heard.url, "k2")
        assert await once() == hooks.Outcome(1, [1])
        assert len(silent.posts) == hooks.ATTEMPTS
    behind = store.get(db, "1")
    assert (behind.last_event_id, behind.failures) == (0, hooks.ATTEMPTS)
    assert "no complete answer" in (behind.last_error or "")


async def test_a_secret_that_cannot_be_read_is_a_failure_and_nothing_leaves(
    db: Connection, once: Once
) -> None:
    tell(db)
    async with receiver() as heard:
        add(db, heard.url, secret="env:NOT_SET_ANYWHERE")
        assert (await once()).failed == [1]
        assert heard.posts == []
    assert "NOT_SET_ANYWHERE" in (store.get(db, "1").last_error or "")


async def test_a_name_that_turns_inwards_later_is_not_followed(db: Connection, once: Once) -> None:
    tell(db)
    async with receiver() as heard:
        port = int(heard.url.split(":")[2].split("/")[0])

        async def resolve(_host: str, _port: int) -> list[str]:
            return ["1.1.1.1", "127.0.0.1"]

        add(db, f"https://rebound.example:{port}/in", allow_private=False)
        assert (await once(resolve=resolve)).failed == [1]
        assert heard.posts == []
    assert "inside this machine" in (store.get(db, "1").last_error or "")


async def test_the_next_attempt_takes_the_next_address(db: Connection, once: Once) -> None:
    tell(db)
    tell(db)

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["127.0.0.77", "127.0.0.1"]  # nobody listens at the first

    async with receiver() as heard:
        add(db, heard.url.replace("127.0.0.1", "two.example"))
        assert await once(resolve=resolve) == hooks.Outcome(2, [])
        assert heard.ids == [1, 2]
    assert heard.posts[0][0]["host"].startswith("two.example:")


async def test_two_processes_never_deliver_at_once(db: Connection, db_path: Path) -> None:
    tell(db)
    stop = asyncio.Event()
    async with receiver() as heard, asyncio.TaskGroup() as group:
        add(db, heard.url)
        group.create_task(hooks.deliver_forever(db_path, Clock(), stop))
        await heard.until(1)
        with pytest.raises(Busy):
            await hooks.deliver_once(db_path, StillClock(), asyncio.Event())
        stop.set()
    assert heard.ids == [1]


async def test_forever_hears_of_events_of_hooks_and_of_their_end(
    db: Connection, db_path: Path
) -> None:
    stop = asyncio.Event()
    async with receiver() as one, receiver() as two, asyncio.TaskGroup() as group:
        first = add(db, one.url, "k1")
        group.create_task(hooks.deliver_forever(db_path, Clock(), stop))
        tell(db)
        await one.until(1)
        add(db, two.url, "k2", since=None)
        tell(db)
        await one.until(2)
        await two.until(1)
        store.remove(db, first)
        tell(db)
        await two.until(2)
        stop.set()
    assert two.ids == [2, 3]
    assert one.ids[:2] == [1, 2]


async def test_forever_ends_in_the_middle_of_a_wait(db: Connection, db_path: Path) -> None:
    tell(db)
    stop = asyncio.Event()
    async with receiver(lambda _: answers(503, b"")) as heard, asyncio.timeout(10):
        add(db, heard.url)
        async with asyncio.TaskGroup() as group:
            group.create_task(hooks.deliver_forever(db_path, Clock(), stop))
            await heard.until(1)
            stop.set()
    assert store.get(db, "1").last_event_id == 0


async def test_a_hook_that_is_removed_while_it_fails_is_let_go(
    db: Connection, db_path: Path
) -> None:
    tell(db)
    async with receiver(lambda _: answers(503, b"")) as heard:
        hook = add(db, heard.url)
        removed = connect(db_path)

        def say(_: str) -> None:
            store.remove(removed, hook)

        outcome = await hooks.deliver_once(db_path, StillClock(), asyncio.Event(), say=say)
        removed.close()
        assert outcome == hooks.Outcome()
        assert len(heard.posts) == 2


async def test_a_crash_before_the_position_is_written_delivers_again(
    db: Connection, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tell(db), tell(db)

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> bool:
        raise Killed

    async with receiver() as heard:
        add(db, heard.url)
        with monkeypatch.context() as patch:
            patch.setattr(store, "delivered", die)
            with pytest.raises(BaseExceptionGroup):
                await once()
        assert await once() == hooks.Outcome(2, [])
    assert heard.ids == [first, first, second]
    assert heard.posts[0][0]["x-wabcast-delivery"] == heard.posts[1][0]["x-wabcast-delivery"]


async def test_a_database_that_cannot_be_written_is_told_as_it_is_and_tried_again(
    db: Connection, db_path: Path, once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(db)
    full, stop = [True], asyncio.Event()
    said: list[str] = []
    delivered = store.delivered

    def write(*given: Any, **named: Any) -> bool:
        if full:
            raise OperationalError("database or disk is full")
        return delivered(*given, **named)

    def say(text: str) -> None:
        said.append(text)
        full.clear()

    monkeypatch.setattr(store, "delivered", write)
    async with receiver() as heard:
        add(db, heard.url)
        with pytest.raises(OperationalError):
            await once()
        async with asyncio.TaskGroup() as group:
            group.create_task(hooks.deliver_forever(db_path, Clock(), stop, say=say))
            await heard.until(3)
            stop.set()
    assert said == ["hooks wait for the database: database or disk is full"]
    assert store.position(db, "k1") == 1


async def test_what_is_not_wanted_is_passed_over_for_good(db: Connection, once: Once) -> None:
    db.execute("begin")
    for _ in range(hooks.PASS_EVERY):
        tell(db, "message:sent")
    db.execute("commit")
    add(db, "http://127.0.0.1:9/", patterns=("campaign:*",))
    assert await once() == hooks.Outcome()
    assert store.get(db, "1").last_event_id == hooks.PASS_EVERY


def test_the_position_only_moves_forward(db: Connection) -> None:
    add(db, "http://127.0.0.1:9/", since=5)
    assert not store.delivered(db, "k1", 5, at="t")
    assert store.delivered(db, "k1", 7, at="t")
    store.passed(db, "k1", 6)
    assert store.position(db, "k1") == 7
    assert store.position(db, "k2") is None
    assert not store.failed(db, "k2", "x")


def test_adding_again_changes_nothing_and_other_settings_are_refused(db: Connection) -> None:
    tell(db)
    hook = add(db, "http://127.0.0.1:9/", since=None)
    assert hook.last_event_id == 1
    assert add(db, "http://127.0.0.1:9/", "k2", since=None) == hook
    with pytest.raises(Refused, match="other settings"):
        add(db, "http://127.0.0.1:9/", "k3", secret="env:X", since=None)
    with pytest.raises(Refused):
        add(db, "http://127.0.0.1:9/", "k3", since=0)
    with pytest.raises(NotFound):
        store.get(db, "7")
