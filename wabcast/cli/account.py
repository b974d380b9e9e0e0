"""`wabcast account`: the senders. A secret is named by where it is kept, never by its value."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import Verbs, output
from wabcast.cli.account_words import (
    as_json,
    cap_of,
    given,
    providers,
    ramp_of,
    rate_of,
    settings_of,
    sources_of,
    validate,
)
from wabcast.errors import Exit, UsageError

if TYPE_CHECKING:
    from wabcast.store.accounts import Account

app = Verbs(
    "WhatsApp senders: a provider, its settings, its caps.",
    examples="wabcast account add shop --provider cloud --phone-number-id 106540352242922"
    " --token env:META_TOKEN\n"
    "wabcast account check shop\n"
    "wabcast account add play --provider sandbox",
)

Name = Annotated[str, typer.Argument(help="The account's name.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the provider; may be repeated."),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="KEY=SOURCE",
        help="Where a secret is kept: env:VAR, file:PATH or keyring:SERVICE/USER.",
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option(metavar="RATE", help="What the account may send, as 80/s (else its provider's)."),
]
Cap = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="How many people a rolling 24 hours may reach (0: its portfolio's tier)."
    ),
]
RampOption = Annotated[
    str | None,
    typer.Option("--ramp", metavar="STEPS", help="Warm-up: people on each day of use, 50/d,100/d."),
]
NumberId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="cloud: the number's id, from the app's API setup."),
]
WabaId = Annotated[
    str | None, typer.Option(metavar="ID", help="cloud: the WhatsApp Business Account's id.")
]
Token = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="cloud: where the access token is kept.")
]
AppSecret = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="cloud: where the app secret is kept (signs webhooks)."),
]
VerifyToken = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="cloud: where the webhook's verify token is kept."),
]
ApiVersion = Annotated[
    str | None, typer.Option(metavar="VERSION", help="cloud: the Graph version (v25.0).")
]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="cloud: where the API is (https://graph.facebook.com)."),
]


@app.verb(
    "add",
    json=True,
    examples="wabcast account add shop --provider cloud --phone-number-id 106540352242922"
    " --token file:/etc/wabcast/token --rate 80/s\n"
    "wabcast account add gate --provider waha --set base_url=http://127.0.0.1:3000"
    " --secret api_key=env:WAHA_KEY",
    more=providers,
)
def add(
    name: Name,
    provider: Annotated[str, typer.Option(metavar="PROVIDER", help="cloud, waha, ...: see below.")],
    set_: Sets = None,
    secret: Secrets = None,
    rate: RateOption = None,
    daily_cap: Cap = None,
    ramp: RampOption = None,
    phone_number_id: NumberId = None,
    waba_id: WabaId = None,
    token: Token = None,
    app_secret: AppSecret = None,
    verify_token: VerifyToken = None,
    api_version: ApiVersion = None,
    base_url: BaseUrl = None,
) -> None:
    """Add an account. Nothing is asked of the provider: `account check` does that."""
    from wabcast import wiring
    from wabcast.clock import Clock
    from wabcast.store import accounts

    manners = wiring.manners(provider)
    account = accounts.Account(
        name=name,
        provider=provider,
        settings={
            **settings_of(set_),
            **given(
                phone_number_id=phone_number_id,
                waba_id=waba_id,
                api_version=api_version,
                base_url=base_url,
            ),
        },
        secrets=sources_of(secret, token=token, app_secret=app_secret, verify_token=verify_token),
        rate=rate_of(rate),
        daily_cap=manners.daily_cap if daily_cap is None else cap_of(daily_cap),
        ramp=ramp_of(ramp),
    )
    validate(account)
    with output.open_store() as db:
        account, new = accounts.add(db, account, now=Clock().now())
    output.note(f"added account {name}" if new else f"account {name} is there already, unchanged")
    if new and manners.caution:
        output.warn(manners.caution)
    if output.options().json:
        output.emit(as_json(account))


@app.verb("list", json=True)
def list_accounts() -> None:
    """List the accounts."""
    from wabcast.store import accounts

    with output.open_store() as db:
        rows = list(accounts.every(db))
    if output.options().json:
        output.emit([as_json(account) for account in rows])
        return
    if not rows:
        output.note("no accounts yet; `wabcast account add` adds one")
        return
    output.table(
        ("name", "provider", "number", "rate", "daily cap", "held by"),
        [
            (
                account.name,
                account.provider,
                account.settings.get("phone_number_id"),
                account.rate,
                account.daily_cap,
                account.halted_reason or account.cooling_reason,
            )
            for account in rows
        ],
    )


@app.verb("show", json=True)
def show(name: Name) -> None:
    """Show an account: its settings, and where its secrets are kept."""
    from wabcast.store import accounts

    with output.open_store() as db:
        account = accounts.get(db, name)
    told = as_json(account)
    if output.options().json:
        output.emit(told)
        return
    for group in ("settings", "secrets"):
        told |= {f"{group}.{key}": value for key, value in told.pop(group).items()}
    output.fields(told)


@app.verb("check", json=True)
def check(name: Name) -> Exit:
    """Ask the provider how the number is; exit 0 if it can send, 5 if not."""
    from wabcast.cli.loop import run_loop
    from wabcast.clock import Clock, text
    from wabcast.health import ask, note
    from wabcast.store import accounts

    with output.open_store() as db:
        account = accounts.get(db, name)
        health = run_loop(ask(account))
        note(db, account, health, at=text(Clock().micros()))
    told = {
        "name": account.name,
        "ok": health.ok,
        "status": health.status,
        "quality": health.quality,
        "throughput": health.throughput,
        "tier": health.tier,
        "can_send": health.can_send,
        "subscribed": health.subscribed,
        "problems": list(health.problems),
        "details": dict(health.details),
    }
    if output.options().json:
        output.emit(told)
    else:
        told |= {"ok": "yes" if health.ok else "no"}
        output.fields({key: told[key] for key in told if key not in ("problems", "details")})
    for problem in health.problems:
        output.warn(problem)
    return Exit.DONE if health.ok else Exit.REFUSED


@app.verb("edit", json=True, examples="wabcast account edit shop --rate 20/s")
def edit(
    name: Name,
    rename: Annotated[
        str | None, typer.Option("--name", metavar="NEW", help="A new name for it.")
    ] = None,
    set_: Sets = None,
    secret: Secrets = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="A setting, a secret, `rate` or `ramp`, to take away."),
    ] = None,
    rate: RateOption = None,
    daily_cap: Cap = None,
    ramp: RampOption = None,
    phone_number_id: NumberId = None,
    waba_id: WabaId = None,
    token: Token = None,
    app_secret: AppSecret = None,
    verify_token: VerifyToken = None,
    api_version: ApiVersion = None,
    base_url: BaseUrl = None,
) -> None:
    """Change an account; what is not named stays. A running campaign keeps the old settings."""
    from wabcast.clock import Clock
    from wabcast.store import accounts

    settings = settings_of(set_) | given(
        phone_number_id=phone_number_id,
        waba_id=waba_id,
        api_version=api_version,
        base_url=base_url,
    )
    secrets = sources_of(secret, token=token, app_secret=app_secret, verify_token=verify_token)
    wanted_rate, wanted_ramp = rate_of(rate), ramp_of(ramp)
    gone = {key.replace("-", "_") for key in unset or ()}

    def change(old: Account) -> Account:
        unknown = gone - {*old.settings, *old.secrets, "rate", "ramp"}
        if unknown:
            raise UsageError(
                f"account {name!r} has no {sorted(unknown)[0]!r} to unset",
                hint=f"`wabcast account show {name}` tells what it has",
            )
        new = replace(
            old,
            name=rename or old.name,
            settings={k: v for k, v in {**old.settings, **settings}.items() if k not in gone},
            secrets={k: v for k, v in {**old.secrets, **secrets}.items() if k not in gone},
            rate=wanted_rate or (None if "rate" in gone else old.rate),
            daily_cap=old.daily_cap if daily_cap is None else cap_of(daily_cap),
            ramp=wanted_ramp or (None if "ramp" in gone else old.ramp),
        )
        validate(new)
        return new

    with output.open_store() as db:
        account, changed = accounts.edit(db, name, change, now=Clock().now())
    output.note(f"changed account {account.name}" if changed else f"account {name}: no change")
    if output.options().json:
        output.emit(as_json(account))


@app.verb("remove", json=True)
def remove(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Remove an account that no campaign names."""
    from wabcast.store import accounts

    with output.open_store() as db:
        accounts.get(db, name)
        output.confirm(f"Remove account {name}?", yes=yes)
        accounts.remove(db, name)
    output.note(f"removed account {name}")
    if output.options().json:
        output.emit({"removed": name})
