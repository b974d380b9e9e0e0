"""Numbers as they come over HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from wabcast.errors import UsageError
from wabcast.phones import BadPhone, known_region, parse


def number(raw: str, region: str | None) -> str:
    """A number in any spelling as E.164. Raises UsageError, naming it."""
    try:
        return parse(raw, known_region(region) if region else None)
    except BadPhone as exc:
        raise UsageError(f"{raw[:40]!r} is no phone number: {exc.reason}") from None


def numbers(raw: Iterable[str], region: str | None) -> list[str]:
    """Each once, in their order."""
    return list(dict.fromkeys(number(one, region) for one in raw))
