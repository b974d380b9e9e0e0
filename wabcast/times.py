"""Times, durations and zones as people type and read them.

The one thing not to break: a local time becomes an instant in `instant()` and nowhere
else, so that the two nights a year when the clocks jump have one rule: a time that comes
twice means the first, a time that never comes means the moment the clocks jump.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from wabcast.errors import UsageError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.ASCII)
_LONGEST = timedelta(days=3660)
_DURATIONS = "write a number with its unit: 500ms, 5s, 10m, 2h, 3d or 1h30m"
_MOMENTS = (
    "write 2026-11-05T09:00:00Z, '2026-11-05 09:00', 09:00 (the next one), 'tomorrow 09:00' or +2h"
)
_ZONES = "write a name of the IANA database: Europe/Berlin, America/Sao_Paulo, UTC"

_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
_DATED = re.compile(
    rf"(?P<date>\d{{4}}-\d{{2}}-\d{{2}})[t ]\s*{_CLOCK}"
    r"\s*(?P<offset>z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII,
)
_NAMED = re.compile(rf"(?:(?P<day>[a-z]+)\s+)?(?:at\s+)?{_CLOCK}", re.ASCII)
_LATER = re.compile(r"(?:\+|in\s)\s*(?P<duration>.+)")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKDAY = re.compile(
    r"(mon)(?:day)?|(tue)(?:s|sday)?|(wed)(?:nesday)?|(thu)(?:r|rs|rsday)?"
    r"|(fri)(?:day)?|(sat)(?:urday)?|(sun)(?:day)?"
)


def duration(text: str, *, option: str = "") -> timedelta:
    """`500ms`, `5s`, `10m`, `2h`, `3d` and compounds like `1h30m`; never negative.

    UsageError for anything else: a number without a unit has no meaning, only 0 has.
    """
    typed = text.strip().lower()
    if typed == "0":
        return timedelta(0)
    total, at, seen = timedelta(0), 0, set[timedelta]()
    try:
        while part := _PART.match(typed, at):
            unit = _UNITS[part[2]]
            if unit in seen:
                raise _wrong(option, f"{text!r} names a unit twice", _DURATIONS)
            seen.add(unit)
            total += float(part[1]) * unit
            at = part.end()
    except KeyError as exc:
        raise _wrong(option, f"{text!r} has no unit called {exc.args[0]!r}", _DURATIONS) from None
    except OverflowError:
        total = timedelta.max
    if total > _LONGEST:
        raise _wrong(option, f"{text!r} is longer than ten years", _DURATIONS)
    if not seen or at < len(typed):
        bare = re.fullmatch(r"\d+(\.\d+)?", typed, re.ASCII)
        what = "has no unit" if bare else "is not a duration"
        raise _wrong(option, f"{text!r} {what}", _DURATIONS)
    return total


def show_duration(length: timedelta) -> str:
    """A duration for people, its two greatest units: `4 min 10 s`, `2 h 5 min`, `3 d 4 h`."""
    if length < timedelta(seconds=1):
        millis = max(length, timedelta(0)) // timedelta(milliseconds=1)
        return f"{millis} ms" if millis else "0 s"
    seconds = length // timedelta(seconds=1)
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    top = next(i for i, (size, _) in enumerate(units) if seconds >= size)
    shown = []
    for size, name in units[top : top + 2]:
        count, seconds = divmod(seconds, size)
        if count:
            shown.append(f"{count} {name}")
    return " ".join(shown)


def moment(text: str, *, zone: ZoneInfo, now: datetime, option: str = "") -> datetime:
    """What a person means by a time, as an aware UTC time.

    ISO 8601 with or without an offset, `2026-11-05 09:00`, `09:00` (the next one after
    `now`), `today|tomorrow|friday 09:00`, `+2h`, `in 2h`, `now`. Without an offset it is
    local time in `zone`, by the rule of `instant`. A date without a time is refused: nobody
    means midnight. Past times are returned as they are, what they mean is the caller's.
    """
    typed = " ".join(text.lower().split())
    try:
        if typed == "now":
            return now.astimezone(UTC)
        if later := _LATER.fullmatch(typed):
            return now.astimezone(UTC) + duration(later["duration"], option=option)
        if dated := _DATED.fullmatch(typed):
            return _dated(dated, zone)
        if (named := _NAMED.fullmatch(typed)) and (found := _named(named, zone, now)):
            return found
    except (ValueError, OverflowError) as exc:
        raise _wrong(option, f"{text!r} is not a time: {exc}", _MOMENTS) from None
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}|[a-z]+day|tomorrow", typed, re.ASCII):
        raise _wrong(option, f"{text!r} is a day without a time", f"add one: '{typed} 09:00'")
    raise _wrong(option, f"{text!r} is not a time", _MOMENTS)


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clocks on the walls of `zone` first show `wall` (naive), as aware UTC.

    On the spring night, when some times never come: the moment the clocks jump, 03:00 for
    02:30. So a later local time is never an earlier instant, and the day is kept.
    OverflowError at the ends of the calendar.
    """
    # fold=0 reads the offset before a jump, fold=1 the one after it (PEP 495).
    late = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall_time(late, zone) == wall:
        return late
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return jump_between(early, late, zone) or late


def wall_time(when: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks of `zone` show at `when`: naive."""
    return when.astimezone(zone).replace(tzinfo=None, fold=0)


def jump_between(early: datetime, late: datetime, zone: ZoneInfo) -> datetime | None:
    """The first instant with the offset of `late`, if `early` has another one; whole seconds."""
    before, after = (when.astimezone(zone).utcoffset() for when in (early, late))
    if before == after:
        return None
    early, late = early.replace(microsecond=0), late.replace(microsecond=0)
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


def swallowed(wall: datetime, zone: ZoneInfo) -> timedelta:
    """How much local time the clocks jump over around `wall`; zero for a time that comes.

    An hour in spring, half an hour on Lord Howe, a day in Apia on 2011-12-30.
    """
    late = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall_time(late, zone) == wall:
        return timedelta(0)
    return late - wall.replace(tzinfo=zone, fold=1).astimezone(UTC)


_LONGEST_ZONE = 64  # characters; the longest IANA name has half of that


def zone(name: str | None, *, default: ZoneInfo, option: str = "--timezone") -> ZoneInfo:
    """A zone by its IANA name, whatever its case; `default` for None. UsageError otherwise."""
    if name is None:
        return default
    found = known_zone(name)
    if found is None:
        near = _near_zones(name[:_LONGEST_ZONE])
        hint = f"did you mean {' or '.join(near)}?" if near else _ZONES
        raise _wrong(option, f"there is no time zone {name[:_LONGEST_ZONE]!r}", hint)
    return found


def known_zone(name: str) -> ZoneInfo | None:
    """The zone of that IANA name, or None: for names that come from data, not from a person."""
    name = name.strip()
    if len(name) > _LONGEST_ZONE:  # Python looks for a package as deep as it has slashes
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # Folders raise OSError, paths and files that are no zones ValueError.
        folded = name.replace(" ", "_").casefold()
        spelled = next((key for key in _zone_names() if key.casefold() == folded), None)
        return ZoneInfo(spelled) if spelled else None


def machine_zone(tz_env: str | None, localtime_link: str | None) -> ZoneInfo:
    """The machine's zone from `$TZ` and from where `/etc/localtime` points; UTC without both.

    UsageError where `$TZ` is set to a rule that has no IANA name: a guess would open
    windows at the wrong hour.
    """
    if tz_env is not None:
        typed = tz_env.removeprefix(":").strip()
        if typed in ("", "UTC0", "GMT0"):
            return ZoneInfo("UTC")
        return zone(_below_zoneinfo(typed), default=ZoneInfo("UTC"), option="TZ")
    if localtime_link is not None and (
        found := known_zone(_below_zoneinfo(localtime_link.strip()))
    ):
        return found
    return ZoneInfo("UTC")


def weekday(word: str) -> int | None:
    """0 for Monday to 6 for Sunday, from `mon`, `Monday`, `tues`; None for other words."""
    found = _WEEKDAY.fullmatch(word.strip().lower())
    return _WEEKDAYS.index(found[found.lastindex or 0]) if found else None


def _dated(found: re.Match[str], zone: ZoneInfo) -> datetime:
    wall = datetime.combine(date.fromisoformat(found["date"]), _clock(found))
    if offset := found["offset"]:
        return datetime.fromisoformat(f"{wall.isoformat()}{offset.upper()}").astimezone(UTC)
    return instant(wall, zone)


def _named(found: re.Match[str], zone: ZoneInfo, now: datetime) -> datetime | None:
    today, at = wall_time(now, zone).date(), _clock(found)

    def on(days: int) -> datetime:
        return instant(datetime.combine(today + timedelta(days), at), zone)

    match found["day"]:
        case None:
            return next((when for when in (on(0), on(1)) if when > now), on(2))
        case "today":
            return on(0)
        case "tomorrow":
            return on(1)
        case word:
            wanted = weekday(word)
            if wanted is None:
                return None
            ahead = (wanted - today.weekday()) % 7
            return on(ahead) if on(ahead) > now else on(ahead + 7)


def _clock(found: re.Match[str]) -> time:
    part = (found["part"] or "").ljust(6, "0")[:6]
    return time(int(found["hour"]), int(found["minute"]), int(found["second"] or 0), int(part))


def _below_zoneinfo(path: str) -> str:
    """`/usr/share/zoneinfo/posix/Europe/Berlin` → `Europe/Berlin`; a bare name stays."""
    name = path.rpartition("zoneinfo/")[2]
    return name.removeprefix("posix/").removeprefix("right/")


@lru_cache(maxsize=1)
def _zone_names() -> set[str]:
    from zoneinfo import available_timezones

    return available_timezones()


def _near_zones(name: str) -> list[str]:
    from difflib import get_close_matches

    wanted = name.strip().replace(" ", "_").casefold()
    keys: dict[str, str] = {}
    for key in sorted(_zone_names()):
        keys[key.casefold()] = key
        # People type the town.
        keys.setdefault(key.rpartition("/")[2].casefold(), key)
    near = get_close_matches(wanted, keys, n=3, cutoff=0.75)
    return list(dict.fromkeys(keys[word] for word in near))


def _wrong(option: str, what: str, hint: str) -> UsageError:
    return UsageError(f"{option}: {what}" if option else what, hint=hint)
