"""Outgoing webhooks: each event of the log, posted to whoever asked to be told.

What a reader must not break: a hook is told in the order of the log and its position moves only
after a 2xx, so it may hear twice (`X-Wabcast-Delivery` is the same then) but misses nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import RetryCallState, retry_if_exception_type, wait_exponential, wait_random
from tenacity.asyncio import AsyncRetrying

from wabcast import locks
from wabcast.clock import Clock, text
from wabcast.config import resolve as read_secret
from wabcast.errors import Busy, WabcastError
from wabcast.events import matching
from wabcast.providers.http import HttpFault
from wabcast.providers.outward import Line, Resolve, Target, addresses, look_up
from wabcast.store import database, events
from wabcast.store import hooks as store
from wabcast.store.connection_thread import ConnectionThread

if TYPE_CHECKING:
    from wabcast.store.database import Connection
    from wabcast.store.hooks import Hook

_T = TypeVar("_T")
Say = Callable[[str], object]

LOOK_EVERY = 0.2
STANDBY = 1.0
"""Seconds between two looks at the log, and at whether another process still delivers."""

ATTEMPTS = 4
FIRST_WAIT, JITTER, LONGEST_WAIT, LONGEST_WAIT_ONCE = 1.0, 1.0, 300.0, 5.0

PAGE = 100
PASS_EVERY = 1000
"""How many events that a hook does not want are passed over before its row says so."""


class Undelivered(Exception):  # a fact of the far side, not a fault of ours
    """It was not taken. The text holds no secret and of the URL no more than the host."""


class _Gone(Exception):
    """The hook was removed while we tried."""


class Sender:
    """Posts events to one hook, signed; knows nothing of order and of trying again."""

    def __init__(self, hook: Hook, *, resolve: Resolve = look_up) -> None:
        self.hook = hook
        self._resolve = resolve
        self._line: Line | None = None
        self._turn = 0

    async def post(self, event: dict[str, Any]) -> None:
        """Returns when it was taken; raises Undelivered."""
        hook = self.hook
        try:
            target = Target.parse(hook.url, allow_private=hook.allow_private)
            found = await addresses(target, allow_private=hook.allow_private, resolve=self._resolve)
            secret = await asyncio.to_thread(read_secret, hook.secret) if hook.secret else None
        except WabcastError as exc:
            raise Undelivered(exc.message) from None
        except HttpFault as exc:
            raise Undelivered(str(exc)) from None
        body = json.dumps(event, separators=(",", ":")).encode()
        if self._line is None:
            self._line = Line(target)
        # The next attempt takes the next address, should this one be dead.
        address = found[self._turn % len(found)]
        self._turn += 1
        try:
            status = await self._line.post_to(
                address, target.path, body, headers(hook, event, body, secret)
            )
        except HttpFault as exc:
            raise Undelivered(f"{target.host}: {exc}") from None
        if not 200 <= status < 300:
            why = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise Undelivered(f"{target.host} answered {status}{why}")
        self._turn -= 1  # stay with what works, and with its connection

    async def aclose(self) -> None:
        if self._line is not None:
            await self._line.aclose()


def headers(hook: Hook, event: dict[str, Any], body: bytes, secret: str | None) -> dict[str, str]:
    """What goes with a delivery; its id is the same each time the same event is tried."""
    told = {
        "x-wabcast-event": str(event["event"]),
        "x-wabcast-delivery": f"{hook.key}-{event['id']}",
    }
    if secret is not None:
        told["x-wabcast-signature"] = sign(secret, body)
    return told


def sign(secret: str, body: bytes) -> str:
    """Of the raw body, as WhatsApp signs its own: `sha256=` and the HMAC in hex."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass(slots=True)
class Outcome:
    """What a round of deliveries came to; `failed` holds the ids of hooks that are behind."""

    delivered: int = 0
    failed: list[int] = field(default_factory=list)


class Courier:
    """Carries the log to the hooks, side by side, each in its order."""

    def __init__(
        self, path: Path, clock: Clock, stop: asyncio.Event, *, say: Say, resolve: Resolve
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._say = say
        self._resolve = resolve
        # Off the event loop: a commit waits for the disk, and for whoever else writes.
        self._thread = ConnectionThread(path, "hooks")
        self._seen: dict[str, int] = {}

    async def __aenter__(self) -> Courier:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._thread.aclose()

    async def once(self) -> Outcome:
        """Tell each hook what it has not heard yet; one that does not answer is left behind."""
        outcome = Outcome()

        async def one(hook: Hook) -> None:
            sender = Sender(hook, resolve=self._resolve)
            try:
                await self._drain(sender, outcome, attempts=ATTEMPTS)
            except Undelivered:
                outcome.failed.append(hook.id)
            except _Gone:
                return
            finally:
                await sender.aclose()

        async with _together() as group:
            for hook in await self._ask(store.every):
                group.create_task(one(hook))
        outcome.failed.sort()
        return outcome

    async def forever(self) -> None:
        """Until `stop`: follow the log, and the hooks that are added and removed."""
        bells: dict[str, asyncio.Event] = {}
        version = -1
        async with _together() as group:
            while not self._stop.is_set():
                now = await self._ask(events.version)
                if now != version:
                    version = now
                    for hook in await self._ask(store.every):
                        if hook.key not in bells:
                            bells[hook.key] = asyncio.Event()
                            group.create_task(self._follow(hook, bells[hook.key]))
                    for bell in bells.values():
                        bell.set()
                await nap(self._clock, self._stop, LOOK_EVERY)
            for bell in bells.values():
                bell.set()

    async def _follow(self, hook: Hook, bell: asyncio.Event) -> None:
        sender = Sender(hook, resolve=self._resolve)
        try:
            while not self._stop.is_set():
                bell.clear()
                await self._drain(sender, Outcome(), attempts=None)
                await bell.wait()
        except (Undelivered, _Gone):
            return  # told to stop in the middle, or removed
        finally:
            await sender.aclose()

    async def _drain(self, sender: Sender, outcome: Outcome, *, attempts: int | None) -> None:
        """Tell a hook all that there is for it; raises Undelivered and _Gone."""
        key = sender.hook.key
        names = matching(sender.hook.events) if sender.hook.events else None
        while not self._stop.is_set():
            told = await self._ask(lambda db: store.position(db, key))
            if told is None:
                raise _Gone
            since = max(told, self._seen.get(key, 0))
            page = await self._ask(partial(events.page, event_id=since, names=names, limit=PAGE))
            for event in page.events:
                await self._deliver(sender, event, attempts=attempts)
                outcome.delivered += 1
                told = event["id"]
                if self._stop.is_set():
                    return
            self._seen[key] = page.seen
            if page.seen - told >= PASS_EVERY:
                await self._ask(partial(store.passed, key=key, event=page.seen))
            if page.whole:
                return

    async def _deliver(
        self, sender: Sender, event: dict[str, Any], *, attempts: int | None
    ) -> None:
        hook, ill = sender.hook, False

        async def attempt() -> None:
            nonlocal ill
            try:
                await sender.post(event)
            except Undelivered as exc:
                error = str(exc)
                if not await self._ask(lambda db: store.failed(db, hook.key, error)):
                    raise _Gone from None
                if not ill:
                    self._say(f"hook {hook.id} is not told of event {event['id']}: {error}")
                ill = True
                raise

        def enough(state: RetryCallState) -> bool:
            return self._stop.is_set() or state.attempt_number == attempts

        longest = LONGEST_WAIT if attempts is None else LONGEST_WAIT_ONCE
        again = AsyncRetrying(
            retry=retry_if_exception_type(Undelivered),
            wait=wait_exponential(multiplier=FIRST_WAIT, max=longest) + wait_random(0, JITTER),
            stop=enough,
            sleep=lambda seconds: nap(self._clock, self._stop, seconds),
            reraise=True,
        )
        await again(attempt)
        at = text(self._clock.micros())
        if not await self._ask(lambda db: store.delivered(db, hook.key, event["id"], at=at)):
            raise _Gone
        if ill:
            self._say(f"hook {hook.id} answers again")

    async def _ask(self, work: Callable[[Connection], _T]) -> _T:
        return await self._thread.ask(work)


@asynccontextmanager
async def _together() -> AsyncIterator[asyncio.TaskGroup]:
    """A group whose first fault is told as what it is: a full disk has an exit code."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as several:
        raise several.exceptions[0] from several


async def nap(clock: Clock, stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    both = {asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(stop.wait())}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in both:
            one.cancel()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether we are the one process that delivers for this database: two would lose the order."""
    from filelock import FileLock, Timeout

    lock = FileLock(locks.folder_of(path) / "hooks.lock", mode=0o600, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _mute(_text: str) -> None:
    """For those who have nobody to say it to."""


async def deliver_once(
    path: Path,
    clock: Clock,
    stop: asyncio.Event,
    *,
    say: Say = _mute,
    resolve: Resolve = look_up,
) -> Outcome:
    """Deliver what is waiting, each event in a few attempts; Busy if another process does."""
    with _alone(path) as ours:
        if not ours:
            raise Busy(
                "another process delivers to the hooks of this database",
                hint="nothing is lost: it delivers these events too",
            )
        async with Courier(path, clock, stop, say=say, resolve=resolve) as courier:
            return await courier.once()


async def deliver_forever(
    path: Path,
    clock: Clock,
    stop: asyncio.Event,
    *,
    say: Say = _mute,
    resolve: Resolve = look_up,
) -> None:
    """Deliver until `stop`; for as long as another process does, stand by.

    A database that cannot be written for a while (a full disk) is said, and tried again.
    """
    while not stop.is_set():
        with _alone(path) as ours:
            if ours:
                try:
                    async with Courier(path, clock, stop, say=say, resolve=resolve) as courier:
                        await courier.forever()
                except database.OperationalError as exc:
                    say(f"hooks wait for the database: {exc}")
        await nap(clock, stop, STANDBY)
