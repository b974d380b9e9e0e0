"""Options that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask. Needed where there is no terminal.")]

Patience = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        help="How long to wait for an account that cannot send; then the campaign is paused.",
    ),
]
