"""`wabcast db prune`: forget what is old. Hung on the noun by `cli/db.py`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import output
from wabcast.errors import UsageError

if TYPE_CHECKING:
    from wabcast.store.prune import Pruned

LEAST = timedelta(days=7)
"""So long WhatsApp goes on delivering a webhook (PROVIDERS 3), and we have to know it again."""

EXAMPLES = "wabcast db prune --older 180d --yes"


def prune(
    older: Annotated[
        str, typer.Option(metavar="AGE", help="What is older than this, as 180d; at least 7d.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget old words and logs; counters, statuses and opt-outs stay.

    Deletes webhooks and events; blanks what campaigns said that are finished, and what people
    wrote but for their wishes to stop. --json: `before`, `webhooks`, `receipts`, `messages`,
    `replies`, `events`.
    """
    from wabcast import times
    from wabcast.clock import Clock, text
    from wabcast.store import prune as work

    age = times.duration(older, option="--older")
    if age < LEAST:
        raise UsageError(
            f"--older {older} is less than 7 days",
            hint="WhatsApp delivers again for a week, and it has to be known what came",
        )
    before = text(Clock().now() - age)
    with output.open_store() as db:
        if found := work.look(db, before=before):
            output.confirm(f"Forget, of before {before[:10]}: {_told(found)}?", yes=yes)
        with output.progress("forgetting", sum(asdict(found).values())) as bar:
            done = work.prune(db, before=before, tick=bar.advance)
    if output.options().json:
        output.emit({"before": before, **asdict(done)})
    if done:
        output.note(f"forgotten, of before {before[:10]}: {_told(done)}")
        output.note("the room is used again; `wabcast db vacuum` gives it back to the disk")
    else:
        output.note(f"nothing is older than {before[:10]}")


def _told(pruned: Pruned) -> str:
    words = {
        "webhooks": "webhooks",
        "receipts": "receipts of unknown messages",
        "messages": "messages' words",
        "replies": "replies' words",
        "events": "events",
    }
    counts = asdict(pruned).items()
    return ", ".join(f"{count:,} {words[name]}" for name, count in counts if count)
