"""When a campaign is due: recurrences, and what to do about an occurrence that was missed.

The one thing not to break: recurrences are reckoned in wall time and become instants only
through `times.instant`, so that each local occurrence comes at most once, later ones are
never earlier, and a clock that was set back fires nothing again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import assert_never
from zoneinfo import ZoneInfo

from wabcast.errors import UsageError
from wabcast.times import instant, known_zone, show_duration, swallowed, wall_time

MISSED_AFTER = timedelta(hours=1)
"""An occurrence that is late by less is not missed, only late."""

_HINT = (
    "write cron:'0 9 * * 1' (minute hour day month weekday) "
    "or FREQ=WEEKLY;BYDAY=MO;BYHOUR=9;BYMINUTE=0"
)
# The Gregorian calendar, weekdays included, repeats every 400 years. dateutil looks for
# the next date until the year 9999; asked in that last stretch it gives up after less
# than 400 years instead of 8,000, which is the difference of 0.1 s and 3 s.
_SHIFT = timedelta(days=146_097 * 19)
# Once a minute has 60 in the first, and whatever has none in one comes seldom in the next.
_LOOK_BACK = tuple(timedelta(hours=hours) for hours in (1, 24, 24 * 32, 24 * 366, 24 * 366 * 100))
_YEARS = range(1970, 2200)
_MOST_COUNTED = 10_000
# A jump of half a day or more is a day struck from the calendar (Apia, 2011-12-30), and
# what was planned for it does not come; nobody wants it at midnight of the next.
_STRUCK_DAY = timedelta(hours=12)
# Wall times that come to nothing in a row: a fold or a struck day, at one a minute.
_MOST_EMPTY = 3_000

# RFC 5545, 3.3.10: the parts of a rule and what their numbers may be, 0 apart.
_NUMBERS = {
    "INTERVAL": range(1, 1001),
    "COUNT": range(1, _MOST_COUNTED + 1),
    "BYSETPOS": range(-366, 367),
    "BYMONTH": range(1, 13),
    "BYMONTHDAY": range(-31, 32),
    "BYYEARDAY": range(-366, 367),
    "BYWEEKNO": range(-53, 54),
    "BYHOUR": range(24),
    "BYMINUTE": range(60),
    "BYSECOND": range(60),
}
_ZERO = frozenset({"BYHOUR", "BYMINUTE", "BYSECOND"})
_SINGLE = frozenset({"INTERVAL", "COUNT", "BYSECOND"})
_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY")
_STORED = re.compile(r"DTSTART;TZID=([^:]+):(\d{8}T\d{6}) (.+)", re.ASCII)
_BYDAY = re.compile(r"([+-]?[1-9]\d?)?(?:MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_UNTIL = re.compile(r"(\d{8})(?:T(\d{6})(Z)?)?", re.ASCII)


class Missed(StrEnum):
    """What a person wants done about an occurrence that was missed."""

    RUN = "run"
    SKIP = "skip"
    AUTO = "auto"


class Due(StrEnum):
    """What to do about an occurrence now."""

    NOT_YET = "not_yet"
    RUN = "run"
    SKIP = "skip"
    ASK = "ask"


def due(scheduled_at: datetime, now: datetime, if_missed: Missed = Missed.AUTO) -> Due:
    """Whether what was planned for `scheduled_at` is to run at `now`.

    Late by less than an hour it runs, whatever was said: cron itself comes a little late.
    """
    late = now - scheduled_at
    if late < timedelta(0):
        return Due.NOT_YET
    if late < MISSED_AFTER:
        return Due.RUN
    match if_missed:
        case Missed.RUN:
            return Due.RUN
        case Missed.SKIP:
            return Due.SKIP
        case Missed.AUTO:
            return Due.ASK
        case _:
            assert_never(if_missed)


def missed_note(scheduled_at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """`was due 2026-11-05 09:00, 3 h 5 min ago`: for the person who is asked."""
    wall = wall_time(scheduled_at, zone)
    return f"was due {wall:%Y-%m-%d %H:%M}, {show_duration(now - scheduled_at)} ago"


def occurrence_name(name: str, when_local: datetime) -> str:
    """What the campaign of one occurrence is called: `Newsletter 2026-11-05 09:00`."""
    return f"{name} {when_local:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule that says when, in the wall time of `zone`; no occurrence lies before `start`.

    `text` is `cron:` with five fields, or an RRULE of RFC 5545. What the RRULE leaves open
    comes from `start`, its DTSTART: the weekday, the hour, the minute, the second.
    """

    text: str
    start: datetime
    zone: ZoneInfo

    @classmethod
    def parse(
        cls, text: str, *, start: datetime, zone: ZoneInfo, option: str = "--repeat"
    ) -> Recurrence:
        """Read `cron:'0 9 * * 1'` or `FREQ=WEEKLY;...` (`RRULE:` before it is fine).

        UsageError for what cannot be read, what never happens, and what comes more often
        than once a minute.
        """
        try:
            recurrence = cls(_canonical(text), start.astimezone(UTC), zone)
            first = recurrence.next_after(recurrence.start - timedelta(seconds=1))
        except ValueError as exc:
            raise UsageError(f"{option} {text!r}: {exc}", hint=_HINT) from None
        if first is None:
            raise UsageError(
                f"{option} {text!r}: never happens after {wall_time(start, zone):%Y-%m-%d %H:%M}",
                hint=_HINT,
            )
        return recurrence

    def __str__(self) -> str:
        """What `load` reads as the same recurrence: iCalendar's DTSTART, then the rule."""
        start = wall_time(self.start, self.zone)
        return f"DTSTART;TZID={self.zone.key}:{start:%Y%m%dT%H%M%S} {self.text}"

    @classmethod
    def load(cls, text: str) -> Recurrence:
        """What `str` wrote. UsageError where that cannot be read, or the zone is unknown."""
        found = _STORED.fullmatch(text)
        if found is None:
            raise UsageError(f"not a recurrence: {text!r}", hint="schedule it again")
        zone = known_zone(found[1])
        if zone is None:
            raise UsageError(f"no time zone called {found[1]!r}", hint="upgrade tzdata")
        wall = datetime.strptime(found[2], "%Y%m%dT%H%M%S")  # noqa: DTZ007  # wall time
        return cls(found[3], instant(wall, zone), zone)

    def latest(self, first: datetime, now: datetime) -> datetime:
        """The last occurrence up to `now`, at least `first`: what is left of several missed."""
        for back in _LOOK_BACK:
            since = max(first, now - back)
            found = list(self._instants_until(since, now))
            if found or since == first:
                return found[-1] if found else first
        return first

    def _instants_until(self, after: datetime, until: datetime) -> Iterator[datetime]:
        for when in self._instants(after):
            if when > until:
                return
            yield when

    def next_after(self, when: datetime, *, fired: datetime | None = None) -> datetime | None:
        """The first occurrence after `when`, aware UTC; None if there is none any more.

        `fired` is the occurrence that was the last to fire: whatever the clock says, what
        lies before it or is it does not come again.
        """
        return next(self._instants(when if fired is None else max(when, fired)), None)

    def occurrences(
        self, after: datetime, until: datetime, *, limit: int = 1000
    ) -> Iterator[datetime]:
        """The occurrences after `after` and up to `until`, at most `limit`, aware UTC."""
        yield from islice(self._instants_until(after, until), limit)

    def _instants(self, after: datetime) -> Iterator[datetime]:
        last = after.astimezone(UTC)
        empty = 0
        for wall in self._walls(wall_time(last, self.zone)):
            when = instant(wall, self.zone)
            # At or before `last`: the second pass of an autumn night, or one more of the
            # times that fell into the spring jump.
            if when <= last or when < self.start or swallowed(wall, self.zone) >= _STRUCK_DAY:
                empty += 1
                if empty > _MOST_EMPTY:
                    return
                continue
            yield when
            last, empty = when, 0

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The wall times of the rule after `after` and not before the start, in order."""
        start = wall_time(self.start, self.zone)
        try:
            if self.text.startswith("cron:"):
                begin = max(after, start - timedelta(seconds=1))
                yield from _cron(self.text.removeprefix("cron:"), begin)
            else:
                begin = start.replace(microsecond=0)
                yield from _rrule(self.text, begin, after, self.zone)
        except OverflowError:  # the end of the calendar
            return


def _canonical(text: str) -> str:
    """The text to store and to parse again; ValueError says what is wrong with it."""
    typed = text.strip()
    if typed.lower().startswith("cron:"):
        fields = typed[len("cron:") :].strip().strip("'\"").split()
        if len(fields) != 5:
            raise ValueError(f"a cron expression has 5 fields, this one {len(fields)}")
        return f"cron:{' '.join(fields)}"
    rule = typed.upper().removeprefix("RRULE:").strip().strip(";")
    if "FREQ=" not in rule:
        if len(typed.split()) == 5:
            raise ValueError("a cron expression begins with cron:")
        raise ValueError("neither a cron expression nor an RRULE")
    _check_rrule(_parts(rule))
    return rule


def _cron(expression: str, after: datetime) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    try:
        # Without a zone: with one, cronsim fires `*/10 2 * * *` twice on the autumn night.
        yield from CronSim(expression, after)
    except CronSimError as exc:
        raise ValueError(str(exc)) from None
    except (AssertionError, TypeError) as exc:
        # How cronsim fails on `5L/2` and its like.
        raise ValueError("not a cron expression") from exc


def _rrule(text: str, start: datetime, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    from dateutil.rrule import rrulestr

    if start.year not in _YEARS or after.year not in _YEARS:
        return
    parts = _parts(text)
    if "UNTIL" in parts:
        until = _until(parts["UNTIL"], zone) + _SHIFT
        parts["UNTIL"] = f"{until:%Y%m%dT%H%M%S}"
    shifted = ";".join(f"{key}={value}" for key, value in parts.items())
    rule = rrulestr(shifted, dtstart=start + _SHIFT)
    for wall in rule.xafter(after + _SHIFT):
        yield wall - _SHIFT


def _parts(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for pair in rule.split(";"):
        key, equals, value = (word.strip() for word in pair.partition("="))
        if not equals or not value:
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        if key in parts:
            raise ValueError(f"{key} stands there twice")
        parts[key] = value
    return parts


def _check_rrule(parts: dict[str, str]) -> None:
    """What dateutil would take in silence, loop on for ever, or do otherwise than RFC 5545."""
    frequency = parts.get("FREQ")
    if frequency not in _FREQUENCIES:
        raise ValueError(
            f"FREQ is one of {', '.join(_FREQUENCIES)}; for minutes write cron:'*/15 * * * *'"
        )
    for key, value in parts.items():
        match key:
            case "FREQ":
                pass
            case "UNTIL":
                _until(value, ZoneInfo("UTC"))
            case "WKST":
                if not _BYDAY.fullmatch(value) or len(value) != 2:
                    raise ValueError(f"WKST={value} is not a weekday")
            case "BYDAY":
                _check_days(value, frequency)
            case "DTSTART" | "TZID":
                raise ValueError(f"{key} is given by --at and --timezone")
            case _ if key in _NUMBERS:
                _check_numbers(key, value)
            case _:
                raise ValueError(f"there is no {key} in an RRULE")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("COUNT and UNTIL exclude each other")
    if "BYSETPOS" in parts and frequency == "HOURLY":
        raise ValueError("BYSETPOS has no meaning with FREQ=HOURLY")


def _check_numbers(key: str, value: str) -> None:
    words, allowed = value.split(","), _NUMBERS[key]
    if key in _SINGLE and len(words) > 1:
        raise ValueError(f"{key} is one number")
    for word in words:
        number = int(word) if re.fullmatch(r"[+-]?\d{1,5}", word, re.ASCII) else None
        if number is None or number not in allowed or (number == 0 and key not in _ZERO):
            raise ValueError(f"{key}={word} is not within {allowed[0]} to {allowed[-1]}")


def _check_days(value: str, frequency: str) -> None:
    for word in value.split(","):
        found = _BYDAY.fullmatch(word)
        if found is None:
            raise ValueError(f"BYDAY={word} is not a weekday: MO TU WE TH FR SA SU, or 1MO, -1FR")
        if found[1] and frequency not in ("MONTHLY", "YEARLY"):
            raise ValueError(f"BYDAY={word} needs FREQ=MONTHLY or YEARLY")


def _until(value: str, zone: ZoneInfo) -> datetime:
    """The last wall time that UNTIL lets through; a date means the whole day."""
    found = _UNTIL.fullmatch(value)
    if found is None:
        raise ValueError(f"UNTIL={value} is not a date: 20261231 or 20261231T220000Z")
    when = datetime.strptime(found[1] + (found[2] or "235959"), "%Y%m%d%H%M%S")  # noqa: DTZ007  # wall time
    if when.year not in _YEARS:
        raise ValueError(f"UNTIL={value} is out of reach")
    return wall_time(when.replace(tzinfo=UTC), zone) if found[3] else when
