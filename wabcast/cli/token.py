"""`wabcast token`: who may use the server. A token is shown once, when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wabcast.cli import Verbs, output

if TYPE_CHECKING:
    from datetime import datetime

    from wabcast.tokens import Token

EXAMPLES = (
    "wabcast token create dashboard --role operator --expires 90d\n"
    "wabcast token create prometheus --allow metrics:read\n"
    "wabcast token list\n"
    "wabcast token revoke dashboard --yes"
)

app = Verbs("Who may use the server, and what each may do.", examples=EXAMPLES)


@app.verb("create", json=True, examples="\n".join(EXAMPLES.splitlines()[:2]))
def create(
    name: Annotated[str, typer.Argument(help="Who will use it; events say so.")],
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="viewer, operator or admin.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="PERMISSION", help="This too, as campaigns:start; repeatable."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="It counts no more after this: 90d.")
    ] = None,
) -> None:
    """Make a token and print it, once. The database keeps its SHA-256 alone.

    A viewer reads, an operator also makes, starts and pauses campaigns and changes contacts, an
    admin also cancels, settles, deletes and erases. Without a role it may what --allow names.
    """
    import secrets

    from wabcast import tokens
    from wabcast.clock import Clock
    from wabcast.errors import UsageError
    from wabcast.store import tokens as kept
    from wabcast.times import duration

    now = Clock().now()
    until = None
    if expires is not None:
        length = duration(expires, option="--expires")
        try:
            until = now + length
        except OverflowError as exc:
            raise UsageError(f"--expires {expires} is beyond all time", hint="as 90d") from exc
        if not length:
            raise UsageError("--expires 0 is over at once", hint="as 90d")
    token = tokens.mint(secrets.token_bytes(tokens.RANDOM))
    with output.open_store() as db:
        made = kept.create(
            db,
            name,
            token,
            role=role,
            allow=tuple(allow or ()),
            now=now,
            expires_at=until,
            by=output.shell_user(),
        )
    output.note(f"token {name} is made; it is shown this once:")
    if output.options().json:
        output.emit({**as_json(made, now), "token": token})
    else:
        output.line(token)


@app.verb("list", json=True)
def list_tokens() -> None:
    """Show all tokens, those that count no more too; never the tokens themselves."""
    from wabcast.clock import Clock
    from wabcast.store import tokens as kept

    now = Clock().now()
    with output.open_store() as db:
        every = kept.every(db)
    if output.options().json:
        output.emit([as_json(token, now) for token in every])
    elif every:
        shown = [as_json(token, now) for token in every]
        output.table(
            ["key", "name", "role", "allow", "state", "expires", "last used"],
            [
                (
                    *(one["key"], one["name"], one["role"], ", ".join(one["allow"]) or None),
                    *(one["state"], one["expires_at"], one["last_used_at"]),
                )
                for one in shown
            ],
        )
    else:
        output.note("no tokens; `wabcast token create NAME --role viewer` makes one")


@app.verb("revoke", json=True)
def revoke(
    name: Annotated[str, typer.Argument(help="The token's name, or its key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Have a token count no more, from the next request on."""
    from wabcast.clock import Clock, text
    from wabcast.store import tokens as kept

    with output.open_store() as db:
        output.confirm(f"Revoke the token {name}?", yes=yes)
        changed = kept.revoke(db, name, at=text(Clock().now()))
    if output.options().json:
        output.emit({"revoked": name, "changed": changed})
    output.note(f"token {name} {'is revoked' if changed else 'was revoked already'}")


def as_json(token: Token, now: datetime) -> dict[str, Any]:
    """A token as scripts see it, without its hash."""
    state = "valid" if token.stands(now) else "revoked" if token.revoked_at else "expired"
    return {
        "key": token.key,
        "name": token.name,
        "role": token.role,
        "allow": list(token.allow),
        "permissions": sorted(token.permissions),
        "state": state,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
    }
