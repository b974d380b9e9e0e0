"""`KEY=VALUE` on the command line, as `--set`, `--secret` and `--var` take it."""

from __future__ import annotations

from collections.abc import Sequence

from wabcast.errors import UsageError


def pairs(words: Sequence[str] | None, option: str) -> dict[str, str]:
    """The words of `option` by key, both without blanks around them.

    UsageError names a wrong word by its place, never by its text: it may be a secret.
    """
    found: dict[str, str] = {}
    for place, word in enumerate(words or (), 1):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not key or not value:
            raise UsageError(
                f"{option} number {place} is not KEY=VALUE", hint=f"write {option} KEY=VALUE"
            )
        if found.get(key, value) != value:
            raise UsageError(f"{option} {key} is given twice, differently", hint="keep one")
        found[key] = value
    return found
