"""Socket.IO: who is let in, what each hears, and what a client that was away has missed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import pytest
import socketio
from doors import mint
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import receiver
from wabcast.clock import Clock, text
from wabcast.connection_limits import Limits
from wabcast.events import Event
from wabcast.server import live, serving
from wabcast.server.app import build
from wabcast.store import campaigns, database, events, tokens
from wabcast.store.database import immediate

pytestmark = pytest.mark.timeout(120)


class Listener:
    """A client of the library's own, and what it has heard."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard: list[tuple[str, Any, str]] = []
        self.refused = ""
        self.moved = asyncio.Event()
        self.io = socketio.AsyncClient(reconnection=False)
        self.io.on("*", self._hear)
        self.io.on("connect_error", self._refuse)

    async def _refuse(self, why: Any) -> None:
        self.refused = str(why)

    async def _hear(self, name: str, data: Any, offset: str) -> None:
        self.heard.append((name, data, offset))
        self.moved.set()

    async def come(self, **auth: Any) -> Listener:
        await self.io.connect(self.url, auth=auth, wait_timeout=20)
        return self

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            while len(self.heard) < count:
                self.moved.clear()
                await self.moved.wait()
        return [name for name, _, _ in self.heard]


class Place:
    """A server on loopback, in this process."""

    def __init__(self, url: str, db: Connection) -> None:
        self.url = url
        self.db = db
        self.listeners: list[Listener] = []

    def token(self, name: str, role: str | None = None, *allow: str) -> str:
        token = mint()
        tokens.create(self.db, name, token, role=role, allow=allow, now=Clock().now())
        return token

    async def listener(self, **auth: Any) -> Listener:
        listener = Listener(self.url)
        self.listeners.append(listener)
        return await listener.come(**auth)

    async def refusal(self, **auth: Any) -> str:
        listener = Listener(self.url)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await listener.come(**auth)
        return listener.refused

    def tell(self, *names: str, **data: Any) -> None:
        with immediate(self.db):
            for name in names:
                events.add(self.db, Event(name, None, data), at="2026-11-05T10:00:00.000Z")


Opened = Callable[[], Any]


@pytest.fixture
def opened(db: Connection, db_path: Path) -> Opened:
    @asynccontextmanager
    async def serve() -> AsyncIterator[Place]:
        app = build(db_path, Clock(), webhooks=False, rest=False, dashboard=False)
        listening = receiver.listen("127.0.0.1", 0)
        url = serving.url_of(listening)
        stop, up = asyncio.Event(), asyncio.Event()
        served = asyncio.create_task(
            serving.serve(
                app, listening, where=url, limits=Limits(), ready=lambda _url: up.set(), stop=stop
            )
        )
        await up.wait()
        place = Place(url, db)
        try:
            yield place
        finally:
            for listener in place.listeners:
                with suppress(Exception):
                    await listener.io.disconnect()
            stop.set()
            await served

    return serve


async def test_a_campaigns_story_in_the_seeds_words(opened: Opened, make: Make) -> None:
    campaign = make.campaign(people=2)
    async with opened() as place:
        web = await place.listener(token=place.token("web", "viewer"))
        with immediate(make.db):
            at = "2026-11-05T10:00:00.000Z"
            for verb in ("start", "pause", "resume", "complete"):
                if verb == "complete":
                    make.db.execute("update campaign_messages set status = 'skipped'")
                assert campaigns.move(make.db, campaign, verb, at=at, run="r")
        assert await web.until(4) == [
            "campaign:started",
            "campaign:paused",
            "campaign:resumed",
            "campaign:completed",
        ]
        told = {name: data for name, data, _ in web.heard}
        assert told["campaign:started"]["campaignId"] == campaign.id
        assert told["campaign:started"]["startedAt"] == at
        assert told["campaign:paused"]["totalRecipients"] == 2
        assert told["campaign:completed"]["campaign"]["name"] == "spring"
        offsets = [int(offset) for _, _, offset in web.heard]
        assert offsets == sorted(set(offsets))


@pytest.mark.parametrize("auth", [{}, {"token": "wab_00000000_x"}, {"token": 7}, {"token": ""}])
async def test_without_a_token_that_stands_nobody_listens(
    opened: Opened, auth: dict[str, Any]
) -> None:
    async with opened() as place:
        assert "a token that stands" in await place.refusal(**auth)


async def test_a_room_is_what_the_token_may(opened: Opened) -> None:
    async with opened() as place:
        everything = await place.listener(token=place.token("all", "viewer"))
        campaigns_only = await place.listener(token=place.token("some", None, "campaigns:read"))
        none = place.token("none", None, "contacts:read")
        assert "may not: events:read" in await place.refusal(token=none)
        place.tell("campaign:started", "message:sent", "contact:opted_out", "campaign:completed")
        assert len(await everything.until(4)) == 4
        assert await campaigns_only.until(2) == ["campaign:started", "campaign:completed"]


async def test_who_comes_back_has_missed_nothing(opened: Opened) -> None:
    async with opened() as place:
        token = place.token("web", "viewer")
        place.tell("campaign:created")
        first = await place.listener(token=token)
        place.tell("campaign:started")
        await first.until(1)
        last = first.heard[-1][2]
        await first.io.disconnect()
        place.tell(*["campaign:progress"] * (live.PAGE + 50), "campaign:completed")
        again = await place.listener(token=token, offset=last)
        place.tell("campaign:scheduled")
        heard = await again.until(live.PAGE + 52)
        assert heard[-2:] == ["campaign:completed", "campaign:scheduled"]
        assert heard[0] == "campaign:progress"
        offsets = [int(offset) for _, _, offset in again.heard]
        assert offsets == list(range(int(last) + 1, int(last) + 1 + len(heard)))


async def test_who_comes_while_two_write_hears_each_event_once_and_in_order(
    opened: Opened, db_path: Path
) -> None:
    enough = threading.Event()

    def write(writer: int) -> None:
        mine = database.connect(db_path)
        turn = 0
        while not enough.wait(0.003 * writer):
            turn += 1
            with immediate(mine):
                for _ in range(1 + turn * 7 % 12):
                    told = Event("campaign:progress", None, {"writer": writer})
                    events.add(mine, told, at="2026-11-05T10:00:00.000Z")
                sleep(0.003)  # the ids are given, and not yet committed
        mine.close()

    async with opened() as place:
        token = place.token("web", "viewer")
        came: list[tuple[Listener, int]] = []
        writing = [asyncio.create_task(asyncio.to_thread(write, nr)) for nr in (1, 2)]
        try:
            for _ in range(20):
                listener = await place.listener(token=token)
                came.append((listener, events.last_id(place.db)))
        finally:
            enough.set()
            await asyncio.wait(writing)
        place.tell("campaign:completed")
        last = events.last_id(place.db)
        assert came[0][1] < came[-1][1] < last
        for listener, seen in came:
            async with asyncio.timeout(30):
                while not listener.heard or listener.heard[-1][0] != "campaign:completed":
                    listener.moved.clear()
                    await listener.moved.wait()
            offsets = [int(offset) for _, _, offset in listener.heard]
            assert offsets == list(range(offsets[0], last + 1))
            assert offsets[0] <= seen + 1


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_token_that_ends_hears_no_more(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(live, "BEAT_EVERY", 0)
    async with opened() as place:
        staying = await place.listener(token=place.token("stays", "viewer"))
        going = await place.listener(token=place.token("goes", "viewer"))
        if end == "revoked":
            tokens.revoke(place.db, "goes", at=text(Clock().now()))
        else:
            now = text(Clock().now())
            place.db.execute("update tokens set expires_at = ? where name = 'goes'", (now,))
        async with asyncio.timeout(30):
            await going.io.wait()
        place.tell("campaign:started")
        assert await staying.until(1) == ["campaign:started"]
        assert going.heard == []


async def test_who_does_not_read_is_cut_off_and_costs_the_others_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEHIND", 300)
    async with opened() as place:
        token = place.token("web", "viewer")
        reader = await place.listener(token=token)
        async with httpx.AsyncClient(base_url=place.url, trust_env=False) as http:
            # Polling, and then it polls no more.
            path = "/socket.io/?EIO=4&transport=polling"
            sid = (await http.get(path)).text.split('"sid":"')[1].split('"')[0]
            asked = await http.post(f"{path}&sid={sid}", content=f'40{{"token":"{token}"}}')
            assert asked.status_code == 200
            assert (await http.get(f"{path}&sid={sid}")).text.startswith("40")
            told = 0
            async with asyncio.timeout(60):
                while (await _polled(http, f"{path}&sid={sid}", told)) is None:
                    place.tell(*["campaign:progress"] * 100)
                    told += 100
                    await reader.until(told)
        assert told <= 600
        assert len(reader.heard) == told


async def _polled(http: httpx.AsyncClient, path: str, told: int) -> int | None:
    """The answer to a poll once it must have been cut off; before that nobody polls."""
    if told <= live.BEHIND:
        return None
    answer = await http.get(path)
    assert len(answer.content) < 200 * (live.BEHIND + live.PAGE)
    return (await http.get(path)).status_code if answer.status_code == 200 else answer.status_code


async def test_a_stranger_who_never_says_who_it_is_is_sent_away(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BEAT_EVERY", 0)
    async with (
        opened() as place,
        httpx.AsyncClient(base_url=place.url, trust_env=False) as http,
    ):
        path = "/socket.io/?EIO=4&transport=polling"
        sid = (await http.get(path)).text.split('"sid":"')[1].split('"')[0]
        async with asyncio.timeout(30):
            assert (await http.get(f"{path}&sid={sid}")).text in ("1", "")
