"""The words of an account on the command line: read, checked, and told again.

What a reader must not break: a secret is a source, never a value, in whatever is read or shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wabcast.cli import output
from wabcast.cli.pairs import pairs
from wabcast.errors import Refused, UsageError, WabcastError

if TYPE_CHECKING:
    from wabcast.store.accounts import Account

OLDEST_LIVING = (21, 0)
"""PROVIDERS 1.1: v20.0 is dead since 24 Sep 2026."""


def as_json(account: Account) -> dict[str, Any]:
    """An account as scripts see it: of its secrets the sources only."""
    from wabcast import clock

    return {
        "name": account.name,
        "provider": account.provider,
        "settings": dict(account.settings),
        "secrets": dict(account.secrets),
        "rate": account.rate,
        "daily_cap": account.daily_cap,
        "ramp": account.ramp,
        "cooling_until": clock.text(account.cooling_until) if account.cooling_until else None,
        "cooling_reason": account.cooling_reason,
        "halted_reason": account.halted_reason,
        "first_used_at": account.first_used_at,
        "created_at": account.created_at,
        "updated_at": account.updated_at,
    }


def providers() -> list[tuple[str, list[tuple[str, str]]]]:
    """What the help says of each provider: its settings and its secrets."""
    from wabcast import wiring

    rows = []
    for name in wiring.provider_names():
        try:
            kind = wiring.provider_class(name)
        except WabcastError as exc:
            rows.append((name, exc.message))
            continue
        settings = [f"{key}*" for key in kind.needed_settings] + list(kind.optional_settings)
        secrets = [f"{key}*" for key in kind.needed_secrets] + list(kind.optional_secrets)
        told = [f"--set {', '.join(settings)}"] if settings else []
        told += [f"--secret {', '.join(secrets)}"] if secrets else []
        rows.append((name, "; ".join(told) or "nothing is needed"))
    return [("Providers (* is needed)", rows)]


def validate(account: Account) -> None:
    """Refuse what the provider says cannot work, before anything is stored."""
    from wabcast.wiring import provider_class

    _warn_of_old_version(account.settings.get("api_version", ""))
    kind = provider_class(account.provider)
    kind.validate(account.settings)
    for key in kind.needed_secrets:
        if key not in account.secrets:
            raise UsageError(
                f"a {account.provider} account needs the secret {key!r}",
                hint=f"--secret {key}=env:VARIABLE, or file:PATH, or keyring:SERVICE/USER",
            )
    unknown = sorted(set(account.secrets) - {*kind.needed_secrets, *kind.optional_secrets})
    if unknown:
        known = ", ".join((*kind.needed_secrets, *kind.optional_secrets))
        raise UsageError(
            f"a {account.provider} account has no secret {unknown[0]!r}", hint=f"it has {known}"
        )


def _warn_of_old_version(version: str) -> None:
    numbers = version.removeprefix("v").split(".")
    if len(numbers) == 2 and all(map(str.isdecimal, numbers)):
        major, minor = map(int, numbers)
        if (major, minor) < OLDEST_LIVING:
            output.warn(f"Meta has switched {version} off; v21.0 is the oldest that answers")


def settings_of(values: Sequence[str] | None) -> dict[str, str]:
    settings = _keyed(pairs(values, "--set"))
    for key, value in settings.items():
        secret = any(word in key for word in ("token", "secret", "password", "api_key", "auth_"))
        if secret or (value.startswith("EAA") and len(value) >= 20):
            raise Refused(
                f"the setting {key!r} is a secret, which the database never holds",
                hint=f"--secret {key}=env:VARIABLE, or file:PATH, or keyring:SERVICE/USER",
            )
    return settings


def _keyed(words: dict[str, str]) -> dict[str, str]:
    return {key.replace("-", "_"): value for key, value in words.items()}


def given(**values: str | None) -> dict[str, str]:
    return {key: value.strip() for key, value in values.items() if value and value.strip()}


def sources_of(values: Sequence[str] | None, **options: str | None) -> dict[str, str]:
    from wabcast import config

    named = _keyed(pairs(values, "--secret")) | given(**options)
    return {key: config.check_source(key, source) for key, source in named.items()}


def rate_of(text: str | None) -> str | None:
    from wabcast.pacing import Rate

    return None if text is None else str(Rate.parse(text))


def ramp_of(text: str | None) -> str | None:
    from wabcast.ramp import Ramp

    return None if text is None else str(Ramp.parse(text))


def cap_of(number: int | None) -> int | None:
    if number is not None and number < 0:
        raise UsageError("--daily-cap is a number of people", hint="0 takes the cap away")
    return number or None
