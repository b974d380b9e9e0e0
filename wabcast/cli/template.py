"""`wabcast template`: messages kept under a name, and the ones that WhatsApp approved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast.cli import Verbs, output
from wabcast.errors import NotFound, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wabcast.store.accounts import Account
    from wabcast.store.database import Connection
    from wabcast.store.templates import Saved

EXAMPLES = (
    "wabcast template add hello --text 'Hello {{firstName}}'\n"
    "wabcast template sync --account shop\n"
    "wabcast template show spring_offer\n"
    "wabcast template preview spring_offer --phone +4915123456789 --param 1='{{firstName}}'"
    " --param header.image=./spring.jpg\n"
    "wabcast campaign create spring --account shop --tag vip --template spring_offer"
    " --lang '{{language}}, en' --param 1='{{firstName}}'"
)

app = Verbs("Messages kept under a name, and those that WhatsApp approved.", examples=EXAMPLES)

Name = Annotated[str, typer.Argument(help="The template's name.", show_default=False)]
OfAccount = Annotated[
    str | None,
    typer.Option("--account", metavar="NAME", help="The template of WhatsApp's on this account."),
]


@app.verb("add", json=True, examples=EXAMPLES.splitlines()[0])
def add(
    name: Name,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The message; - is stdin.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The message, as YAML; local media are found beside it."),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
) -> None:
    """Keep a message, with its holes, under a name."""
    from wabcast import media, message
    from wabcast.clock import Clock
    from wabcast.clock import text as written
    from wabcast.store import templates

    if (text is None) == (file is None):
        raise UsageError("a template needs one of --text and --file", hint="--text 'Hello'")
    if text is not None:
        body = message.text(_read("-", "--text") if text == "-" else text)
    else:
        source = str(file)
        folder = Path.cwd() if source == "-" else Path(source).resolve().parent
        body = message.parse_yaml(_read(source, "--file"), source)
        body = media.in_folder(body, str(folder))
    with output.open_store() as db:
        at = written(Clock().now())
        saved, new = templates.add(db, name, body, description=description, at=at)
    output.note(f"template {name} is kept" if new else f"template {name} is there already")
    if output.options().json:
        output.emit(_whole(saved))


@app.verb("sync", json=True, examples=EXAMPLES.splitlines()[1])
def sync(
    account: Annotated[str, typer.Option(metavar="NAME", help="Whose templates.")],
) -> None:
    """Fetch WhatsApp's templates of an account; those that are gone are marked DELETED."""
    import asyncio
    from dataclasses import asdict

    from wabcast.clock import Clock, text
    from wabcast.store import accounts, templates

    with output.open_store() as db:
        sender = accounts.get(db, account)
        listed = asyncio.run(_ask(sender))
        found = templates.sync(db, sender, listed, at=text(Clock().now()))
        usable = {
            saved.name for saved in templates.every(db, account) if saved.status == "APPROVED"
        }
    if output.options().json:
        output.emit({"account": account, "approved": len(usable), **asdict(found)})
    output.note(
        f"{account}: {found.added} new, {found.changed} changed, {found.unchanged} the same, "
        f"{found.gone} gone; {len(usable)} can be sent"
    )


@app.verb("list", json=True)
def list_templates(account: OfAccount = None) -> None:
    """List the templates, yours and WhatsApp's."""
    from wabcast.store import templates

    with output.open_store() as db:
        found = templates.every(db, account)
    if output.options().json:
        output.emit([saved.to_json() for saved in found])
        return
    if not found:
        output.note("no templates; `wabcast template add` keeps one, `template sync` fetches them")
        return
    output.table(
        ("name", "account", "language", "status", "category", "description"),
        [
            (s.name, s.account, s.language, s.status, s.category, s.description or None)
            for s in found
        ],
    )


@app.verb("show", json=True, examples="wabcast template show spring_offer")
def show(
    name: Name,
    account: OfAccount = None,
) -> None:
    """Show a template: its text, what it takes, and whether it can be sent."""
    from wabcast import readable
    from wabcast.store import templates

    with output.open_store() as db:
        found = templates.get(db, name, account)
    if output.options().json:
        output.emit([_whole(saved) for saved in found])
        return
    for at, saved in enumerate(found):
        if at:
            output.line()
        told = _whole(saved)
        told.pop("body")
        told |= {key: ", ".join(told[key]) or None for key in ("needs", "takes")}
        output.fields({key: value for key, value in told.items() if value})
        output.line()
        if saved.account is None:
            output.lines(readable.text(saved.body))
        else:
            output.lines(readable.definition_text(saved.definition))


@app.verb("preview", json=True, examples=EXAMPLES.splitlines()[3])
def preview(
    name: Name,
    phone: Annotated[
        str | None, typer.Option(metavar="PHONE", help="As this contact would get it.")
    ] = None,
    var: Annotated[
        list[str] | None, typer.Option("--var", metavar="KEY=VALUE", help="What a name stands for.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="KEY=EXPR", help="A parameter of WhatsApp's template."),
    ] = None,
    lang: Annotated[
        str | None, typer.Option(metavar="LANG", help="Its language; '{{language}}, en' chooses.")
    ] = None,
    account: OfAccount = None,
) -> None:
    """Show what would be said: to a contact, or with values given here."""
    from wabcast import content, message, readable
    from wabcast.cli.contact_files import one_phone
    from wabcast.cli.pairs import pairs
    from wabcast.delivery import Unsayable
    from wabcast.store import templates

    given = pairs(var, "--var")
    with output.open_store() as db:
        found = templates.get(db, name, account)
        if found[0].account is None:
            if param or lang:
                raise UsageError(
                    f"{name} is a template of yours, --lang and --param are for WhatsApp's",
                    hint="give its names a value with --var KEY=VALUE",
                )
            body: Mapping[str, Any] = found[0].body
        else:
            body = templates.content(db, name, found[0].account, lang, pairs(param, "--param"))
        loaded = content.prepare(db, body, _sender(db, found[0]), given)
        number = one_phone(phone) if phone is not None else None
        variables = content.variables_for(db, number) if number is not None else {}
        for problem in content.problems(loaded):
            output.warn(problem)
        try:
            said = content.speaker(loaded)(variables)
        except Unsayable as exc:
            raise Refused(
                f"it cannot be said: {exc.reason}",
                hint="--phone PHONE takes the values of a contact, --var KEY=VALUE gives one",
            ) from exc
    definition = next(
        (s.definition for s in found if s.account and s.language == _language(said)), None
    )
    if output.options().json:
        told = {"phone": number, "text": readable.text(said, definition), "message": said}
        output.emit(told | {"notes": message.notes(said)})
        return
    output.lines(readable.text(said, definition))


@app.verb("remove")
def remove(
    name: Name,
    account: OfAccount = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a template. Campaigns keep what they say; a sync brings WhatsApp's back."""
    from wabcast.store import templates

    with output.open_store() as db:
        found = templates.get(db, name, account)
        whose = f", WhatsApp's on {found[0].account}" if found[0].account else ""
        output.confirm(f"Forget the template {name}{whose}?", yes=yes)
        templates.remove(db, name, found[0].account)
    output.note(f"template {name} is forgotten{'; WhatsApp still has it' if whose else ''}")


def _whole(saved: Saved) -> dict[str, Any]:
    """All of a template. `needs` are the names it must be given, `takes` those it may be."""
    from wabcast import template, whatsapp_template

    told = saved.to_json()
    if saved.account is None:
        needed, more = sorted(template.names(saved.body)), []
    else:
        wanted = whatsapp_template.needs(saved.definition)
        needed, more = list(wanted.required()), list(wanted.optional())
    body = saved.body if saved.account is None else saved.definition
    return told | {"needs": needed, "takes": more, "body": dict(body)}


def _sender(db: Connection, saved: Saved) -> Account:
    from wabcast.store import accounts

    if saved.account is not None:
        return accounts.get(db, saved.account)
    return accounts.Account("no account", "none")


def _language(said: Mapping[str, Any]) -> str | None:
    named = said.get("template") if said.get("type") == "template" else None
    return named["language"]["code"] if named else None


async def _ask(account: Account) -> list[dict[str, Any]]:
    from wabcast import wiring

    provider = wiring.provider_for(account)
    try:
        return await provider.templates()
    finally:
        await provider.aclose()


def _read(source: str, option: str) -> str:
    import sys

    if source == "-":
        return sys.stdin.read()
    path = Path(source)
    if not path.is_file():
        raise NotFound(f"no file {source}", hint=f"{option} takes a file's name, or - for stdin")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{source} is not UTF-8", hint="save it as UTF-8") from exc
