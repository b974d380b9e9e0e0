"""The hours in which messages may leave, on the recipients' own clocks.

The one thing not to break: a window is open exactly while the clock on the wall of the
zone shows a time inside it. Everything else here only finds the instant when that changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from wabcast.errors import UsageError
from wabcast.times import jump_between, known_zone, wall_time, weekday

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL_DAYS = frozenset(range(7))
_MIDNIGHT = 24 * 60
# A weekly window comes round within 8 days, 15 where the clocks jumped over its one day.
_HORIZON = timedelta(days=16)
_HINT = "write 09:00-20:00, 22:00-06:00, 09:00-12:00,14:00-18:00 or mon-fri 09:00-20:00"
_HOURS = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*-\s*(\d{1,2})(?::(\d{2}))?", re.ASCII)
_PREFIXED = re.compile(r"(?P<days>[a-z]+(?:\s*-\s*[a-z]+)?)?\s*(?P<hours>\d.*)?")


@dataclass(frozen=True, slots=True)
class Span:
    """Opening hours: weekdays (0 is Monday), and minutes of the day from start to end.

    `start < end <= 1440`; a span with `end <= start` goes over midnight and belongs to
    the day it starts on.
    """

    days: frozenset[int]
    start: int
    end: int

    def covers(self, wall: datetime) -> bool:
        minute, day = wall.hour * 60 + wall.minute, wall.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        yesterday = (day - 1) % 7
        return (day in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


@dataclass(frozen=True, slots=True)
class Window:
    """When messages may leave: `09:00-20:00`, `mon-fri 09:00-12:00,14:00-18:00,sat 10:00-14:00`.

    `str(window)` is a text that `parse` reads as the same window.
    """

    spans: tuple[Span, ...]

    @classmethod
    def parse(cls, text: str, *, option: str = "--window") -> Window:
        """Hours, joined by commas; weekdays before hours hold until other weekdays come.

        UsageError where it cannot be read, or where it would never be open.
        """
        spans: list[Span] = []
        days: frozenset[int] = _ALL_DAYS
        gathered: frozenset[int] = frozenset()
        for part in text.lower().split(","):
            found = _PREFIXED.fullmatch(part.strip())
            if found is None or not part.strip():
                raise _wrong(option, text, f"{part.strip()!r} is not a range of hours")
            if found["days"]:
                gathered |= _days(found["days"], text, option)
            if found["hours"]:
                days, gathered = gathered or days, frozenset()
                spans.append(Span(days, *_hours(found["hours"], text, option)))
        if gathered:
            raise _wrong(option, text, "the last weekdays have no hours")
        return cls(tuple(spans))

    def is_open(self, now: datetime, zone: ZoneInfo) -> bool:
        wall = wall_time(now, zone)
        return any(span.covers(wall) for span in self.spans)

    def wait(self, now: datetime, zone: ZoneInfo) -> timedelta:
        """How long until it opens; zero while it is open."""
        return self.opens(now, zone) - now

    def wait_all(self, now: datetime, zones: tuple[ZoneInfo, ...]) -> timedelta:
        """How long until it is open in all `zones` at once; in the first one if that never is."""
        if len(zones) == 1 or all(self.is_open(now, zone) for zone in zones):
            return self.wait(now, zones[0])
        distinct = _distinct(zones, now)
        when, limit = now, now + _HORIZON
        while when < limit:
            latest = max(self.opens(when, zone) for zone in distinct)
            if latest == when:
                return when - now
            when = latest
        return self.wait(now, zones[0])

    def opens(self, now: datetime, zone: ZoneInfo) -> datetime:
        """The first instant from `now` on at which it is open."""
        if self.is_open(now, zone):
            return now
        edges = self._edges(now, zone)
        return next((edge for edge in edges if self.is_open(edge, zone)), now + _HORIZON)

    def closes(self, now: datetime, zone: ZoneInfo) -> datetime | None:
        """The first instant from `now` on at which it is closed; None if it never closes."""
        if not self.is_open(now, zone):
            return now
        return next((edge for edge in self._edges(now, zone) if not self.is_open(edge, zone)), None)

    def __str__(self) -> str:
        said: list[str] = []
        for i, span in enumerate(self.spans):
            inherited = i > 0 and span.days == self.spans[i - 1].days
            # Every day needs saying after other days, or it would inherit them.
            bare = inherited or (i == 0 and span.days == _ALL_DAYS)
            hours = f"{_hhmm(span.start)}-{_hhmm(span.end)}"
            said.append(hours if bare else f"{_show_days(span.days)} {hours}")
        return ",".join(said)

    def _edges(self, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Every instant after `now`, for 16 days, at which it may open or close, in order.

        Between two of them the walls show neither a start nor an end nor a midnight, and
        the clocks do not jump.
        """
        minutes = {0, *(m % _MIDNIGHT for s in self.spans for m in (s.start, s.end))}
        today = wall_time(now, zone).date()
        # Nearly every answer lies within two days; the rest need not be reckoned for it.
        begin = now
        for end in (now + timedelta(days=2), now + _HORIZON):
            edges = set[datetime]()
            # A day to spare on either side, for the clocks that jump by one.
            for ahead in range((begin - now).days - 2, (end - now).days + 3):
                day = today + timedelta(days=ahead)
                for minute in minutes:
                    wall = datetime.combine(day, time(*divmod(minute, 60)), zone)
                    edges.update(wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
                early = now + timedelta(days=ahead)
                if jump := jump_between(early, early + timedelta(days=1), zone):
                    edges.add(jump)
            yield from sorted(edge for edge in edges if begin < edge <= end)
            begin = end


def zones_of(phone: str, column: str | None, default: ZoneInfo) -> tuple[ZoneInfo, ...]:
    """The zones in which the owner of an E.164 number may be, the likeliest first.

    The contact's own column if it is the name of a zone, else what the number says by
    phonenumbers: a German mobile has one zone, a Russian one all of Russia's. `default`
    where it says nothing (satellites, numbers that are no numbers).
    """
    if column and (own := _column_zone(column)):
        return (own,)
    return _number_zones(phone) or (default,)


def recipient_zone(phone: str, column: str | None, default: ZoneInfo) -> ZoneInfo:
    """The likeliest zone of a recipient, for showing; `zones_of` is for deciding."""
    return zones_of(phone, column, default)[0]


@lru_cache(maxsize=1024)
def _column_zone(column: str) -> ZoneInfo | None:
    return known_zone(column)


@lru_cache(maxsize=4096)
def _number_zones(phone: str) -> tuple[ZoneInfo, ...]:
    import phonenumbers
    from phonenumbers import timezone

    try:
        number = phonenumbers.parse(phone, None)
    except phonenumbers.NumberParseException:
        return ()
    listed = timezone.time_zones_for_number(number)
    # A calling code may be shared: +7 lists Almaty for Moscow's mobiles.
    at_home = _country_zones().get(phonenumbers.region_code_for_number(number) or "", frozenset())
    known = [name for name in listed if known_zone(name)]
    names = [name for name in known if name in at_home] or known
    guesses = timezone.time_zones_for_geographical_number(number)
    likeliest = [name for name in guesses if name in names or not known]
    found = (known_zone(name) for name in dict.fromkeys([*likeliest, *names]))
    return tuple(zone for zone in found if zone is not None)


@lru_cache(maxsize=1)
def _country_zones() -> dict[str, frozenset[str]]:
    """ISO 3166 country to its zones, from the tz database's own `zone.tab`."""
    from importlib.resources import files

    countries: dict[str, set[str]] = {}
    table = files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    for line in table.splitlines():
        if line and not line.startswith("#"):
            country, _, name, *_ = line.split("\t")
            countries.setdefault(country, set()).add(name)
    return {country: frozenset(names) for country, names in countries.items()}


def _distinct(zones: tuple[ZoneInfo, ...], now: datetime) -> list[ZoneInfo]:
    """One zone for each clock: +1 800 has 42 zones but a dozen clocks."""
    instants = [now + timedelta(days=day) for day in range(0, _HORIZON.days + 1, 2)]
    clocks: dict[tuple[timedelta | None, ...], ZoneInfo] = {}
    for zone in zones:
        clocks.setdefault(tuple(when.astimezone(zone).utcoffset() for when in instants), zone)
    return list(clocks.values())


def _days(words: str, text: str, option: str) -> frozenset[int]:
    first, _, last = (word.strip() for word in words.partition("-"))
    begin = weekday(first)
    end = weekday(last) if last else begin
    if begin is None or end is None:
        unknown = first if begin is None else last
        raise _wrong(option, text, f"{unknown!r} is not a weekday")
    return frozenset((begin + i) % 7 for i in range((end - begin) % 7 + 1))


def _hours(hours: str, text: str, option: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(hours.strip())
    if found is None:
        raise _wrong(option, text, f"{hours.strip()!r} is not a range of hours")
    numbers = [int(group or 0) for group in found.groups()]
    start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if max(numbers[1], numbers[3]) > 59 or start >= _MIDNIGHT or end > _MIDNIGHT:
        raise _wrong(option, text, f"{hours.strip()!r} is not on a clock")
    if start == end:
        raise _wrong(option, text, f"{hours.strip()!r} is never open (all day is 00:00-24:00)")
    if end == 0:
        end = _MIDNIGHT
    return start, end


def _hhmm(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _show_days(days: frozenset[int]) -> str:
    """`mon-fri`, `sat,sun`; the runs of a set of weekdays."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(
        _DAYS[run[0]] if len(run) == 1 else f"{_DAYS[run[0]]}-{_DAYS[run[-1]]}" for run in runs
    )


def _wrong(option: str, text: str, what: str) -> UsageError:
    return UsageError(f"{option} {text!r}: {what}", hint=_HINT)
