"""The one place that builds the parts from what the file and the environment say.

Whoever needs a provider, a renderer or a gate asks here; nothing else knows which class an
account's provider is, or where its secrets are.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from wabcast.clock import Clock, parse
from wabcast.errors import UsageError
from wabcast.pacing import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from wabcast.campaign import Campaign
    from wabcast.gate import AccountGate, Gate
    from wabcast.plan import Plan
    from wabcast.providers.base import Manners, Provider
    from wabcast.recorder import Recorder
    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection
    from wabcast.webhooks import Webhooks

BUILT_IN = {
    "cloud": "wabcast.providers.cloud:CloudProvider",
    "waha": "wabcast.providers.waha:WahaProvider",
    "evolution": "wabcast.providers.evolution:EvolutionProvider",
    "twilio": "wabcast.providers.twilio:TwilioProvider",
    "sandbox": "wabcast.providers.sandbox:SandboxProvider",
}
ENTRY_POINTS = "wabcast.providers"


def provider_names() -> list[str]:
    from importlib.metadata import entry_points

    plugins = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return [*BUILT_IN, *sorted(plugins - set(BUILT_IN))]


def provider_class(name: str) -> type[Provider]:
    """The class behind `--provider NAME`: ours, or a plugin's. UsageError where there is none."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: type[Provider] = getattr(import_module(module), attribute)
        return found
    from importlib.metadata import entry_points

    points = {point.value: point for point in entry_points(group=ENTRY_POINTS, name=name)}
    if not points:
        raise UsageError(
            f"no provider called {name!r}", hint=f"there are: {', '.join(provider_names())}"
        )
    if len(points) > 1:
        raise UsageError(
            f"several plugins are called {name!r}: {', '.join(sorted(points))}",
            hint="uninstall all but one of them",
        )
    return _plugin(*points.values())


def _plugin(point: EntryPoint) -> type[Provider]:
    """A plugin's class, if it has the whole interface."""
    from wabcast.providers.base import lacking

    maker = f" of {point.dist.name} {point.dist.version}" if point.dist else ""
    what = f"the provider {point.name!r} ({point.value}{maker})"
    try:
        plugin: object = point.load()
    except Exception as exc:
        why = f"{type(exc).__name__}: {exc}"
        raise UsageError(
            f"{what} cannot be loaded: {why}",
            hint="ask its author, or uninstall it; --verbose shows where",
        ) from exc
    lacks = lacking(plugin) if isinstance(plugin, type) else ["a class"]
    if lacks:
        raise UsageError(
            f"{what} lacks {', '.join(lacks)}",
            hint="the interface is in wabcast/providers/base.py; ask its author",
        )
    return cast("type[Provider]", plugin)


def manners(name: str) -> Manners:
    """What the provider called `name` asks of whoever sends through it."""
    from wabcast.providers.base import Manners

    if name in ("cloud", "sandbox"):
        return Manners()  # they ask for nothing, and importing them takes long
    return Manners.of(provider_class(name))


def leave_alone(name: str) -> Mapping[str, timedelta]:
    """By which codes of this provider WhatsApp asks to leave a person alone, and for how long."""
    from wabcast.providers.base import Manners

    return Manners.of(provider_class(name)).leave_alone


def provider_for(account: Account, *, concurrency: int = 10) -> Provider:
    """Build an account's provider, its secrets read from where they are kept."""
    from wabcast.config import resolve
    from wabcast.providers.base import Settings

    secrets = {key: resolve(source) for key, source in account.secrets.items()}
    build: Callable[..., Provider] = provider_class(account.provider)
    return build(Settings(account.name, account.settings), secrets, concurrency=concurrency)


def jitter_of(text: str) -> tuple[float, float]:
    """`10s` is anything up to ten seconds, `5s-15s` at least five; in seconds."""
    from wabcast.times import duration

    low, dash, high = text.partition("-")
    if not dash:
        return 0.0, duration(text, option="--jitter").total_seconds()
    return (
        duration(low, option="--jitter").total_seconds(),
        duration(high, option="--jitter").total_seconds(),
    )


def gate_for(
    campaign: Campaign, account_gate: AccountGate, recorder: Recorder, clock: Clock
) -> Gate:
    from wabcast.gate import Gate

    return Gate(
        Rate.parse(campaign.rate),
        account_gate,
        clock,
        batch_size=campaign.batch_size,
        batch_delay=timedelta(milliseconds=campaign.batch_delay),
        jitter=jitter_of(campaign.jitter),
        last_slot_at=campaign.last_slot_at,
        lead=lambda: recorder.commit_seconds,
    )


def plan_for(campaign: Campaign, *, attended: bool, patience: timedelta) -> Plan:
    from wabcast.canary import Canary
    from wabcast.plan import Plan

    plan = Plan(
        campaign.id,
        campaign.concurrency,
        not_after=parse(campaign.not_after) if campaign.not_after else None,
        canary=Canary.parse(campaign.canary)
        if campaign.canary and not campaign.canary_judged
        else None,
        cap_account=campaign.account_id,
        attended=attended,
        patience=patience,
    )
    if campaign.windows:
        plan.quiet = _quiet(campaign)
        if campaign.recipient_timezone:
            plan.put_off = "outside the recipients' window"
    return plan


def _quiet(campaign: Campaign) -> Any:
    """The campaign's window, on its own clock or on each recipient's."""
    from datetime import datetime

    from wabcast.config import machine_zone
    from wabcast.ledger import Due
    from wabcast.times import zone
    from wabcast.windows import Window, zones_of

    window = Window.parse(campaign.windows or "")
    home = zone(campaign.timezone, default=machine_zone())

    def quiet(due: Due | None, now: datetime) -> timedelta:
        if not campaign.recipient_timezone:
            return window.wait(now, home)
        if due is None:
            return timedelta(0)
        return window.wait_all(now, zones_of(due.phone, due.person["timezone"], home))

    return quiet


def hear(provider: Provider, account: Account, path: Path, clock: Clock) -> Webhooks | None:
    """Have the receipts of a played WhatsApp, which has no receiver to post them to."""
    if not hasattr(provider, "on_webhook"):
        return None
    from wabcast.webhooks import Webhooks

    webhooks = Webhooks(path, clock)

    async def sink(body: bytes, headers: Mapping[str, str]) -> int:
        return await webhooks.receive_now(account, provider, headers, body)

    provider.on_webhook = sink
    return webhooks


def advised(db: Connection, campaign: Campaign, causes: list[dict[str, Any]]) -> None:
    """Give each of a campaign's causes its `advice`: the provider's, or ours for our codes."""
    from wabcast.report_page import OUR_ADVICE
    from wabcast.store import accounts

    if causes:
        advise = _adviser(accounts.get(db, campaign.account).provider)
        for cause in causes:
            cause["advice"] = OUR_ADVICE.get(cause["code"]) or advise(cause["code"])


def _adviser(provider: str) -> Callable[[str], str]:
    """What a provider advises for a code; nothing where it has no words for them."""
    if provider in ("cloud", "sandbox"):
        from wabcast.providers.cloud_codes import advice

        return advice
    try:
        return getattr(provider_class(provider), "advice", lambda _code: "")
    except UsageError:  # a plugin that is not installed any more
        return lambda _code: ""
