"""What the verbs of `wabcast contact` have in common: how a person is named, and the time."""

from __future__ import annotations

from typing import Annotated

import typer

Phone = Annotated[str, typer.Argument(metavar="PHONE", help="The number, in any spelling.")]
Phones = Annotated[list[str], typer.Argument(metavar="PHONE...", help="Numbers, in any spelling.")]
Region = Annotated[
    str | None,
    typer.Option(metavar="CC", help="The country of numbers without a code, as DE."),
]


def now() -> str:
    from wabcast.clock import Clock, text

    return text(Clock().now())


def number(raw: str, region: str | None) -> str:
    from wabcast.cli.contact_files import one_phone

    return one_phone(raw, region)
