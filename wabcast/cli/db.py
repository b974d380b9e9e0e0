"""`wabcast db`: the file itself. Nothing here knows what the rows mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast.cli import Verbs, db_audit, db_prune, output
from wabcast.errors import Exit, Refused, UsageError

if TYPE_CHECKING:
    from wabcast.clone_guard import Adopted
    from wabcast.store.restore import Restored

app = Verbs(
    "The database file: where it is, whether it is sound, copies of it.",
    examples="wabcast db check\n"
    "wabcast db backup /backup/wabcast-monday.db\n"
    'wabcast db sql "select name, status from campaigns"',
)

LONGEST_SQL = 1_000_000

IN_DOUBT = (
    "were on the wire and are in doubt: receipts settle them, or you: "
    "wabcast campaign settle NAME --as sent|failed|pending"
)


@app.verb("path", json=True)
def path() -> None:
    """Print where the database is; it need not exist yet."""
    where = str(output.options().db.absolute())
    if output.options().json:
        output.emit({"path": where})
    else:
        output.line(where)


@app.verb("check", json=True)
def check() -> Exit:
    """Read the whole file and say whether it is sound: exit 0 if it is, 1 if not.

    Tables, indexes and triggers of your own are named, and are no fault.
    """
    from contextlib import closing

    from wabcast.store import soundness
    from wabcast.store.database import connect_read_only

    path = output.options().db
    with closing(connect_read_only(path)) as db:
        found = soundness.examine(db)
    if output.options().json:
        told = {"findings": found.findings, "own": found.own}
        output.emit({"ok": not found.findings, "path": str(path), **told})
    else:
        for finding in [*found.findings, *found.own]:
            output.line(finding)
    if found.damage:
        output.warn(f"{path} is damaged: {soundness.PUT_BACK}")
        return Exit.ERROR
    if found.faults:
        output.warn(f"{path} is not as wabcast writes it; every row in it can be read")
        return Exit.ERROR
    output.note(f"{path} is sound")
    return Exit.DONE


@app.verb("backup", json=True, examples="wabcast db backup /backup/wabcast-$(date +%F).db")
def backup(
    file: Annotated[str, typer.Argument(help="Where the copy goes.")],
    yes: Annotated[bool, typer.Option("--yes", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Copy the database while it is in use: the copy is whole, or there is none."""
    from wabcast.store import database

    source, target = output.options().db, Path(file).expanduser()
    if not source.exists():
        database.connect_read_only(source)
    if target.is_dir():
        raise UsageError(f"{target} is a folder", hint="name the file that the copy goes to")
    if target.exists():
        if target.samefile(source):
            raise Refused(f"{target} is the database itself", hint="name another file")
        output.confirm(f"{target} exists. Overwrite it?", yes=yes)
    with output.open_store() as db, output.progress("copying pages") as bar:
        database.backup(db, target, bar.update)
    size = target.stat().st_size
    output.note(f"copied {size:,} bytes to {target}")
    if output.options().json:
        output.emit({"path": str(target.absolute()), "bytes": size})


@app.verb("restore", json=True, examples="wabcast db restore /backup/wabcast-monday.db")
def restore(
    file: Annotated[str, typer.Argument(help="A copy made by `db backup`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Put a copy in the place of the database: nothing leaves until you resume a campaign.

    What the old file knows to have left is kept. Where that is not known, nothing starts before
    `wabcast db adopt`.
    """
    from contextlib import ExitStack

    from wabcast import clone_guard, locks
    from wabcast.clock import Clock, text
    from wabcast.store import restore as work

    source, path = Path(file).expanduser(), output.options().db
    if path.exists() and source.exists() and source.samefile(path):
        raise Refused(f"{source} is the database itself", hint="name a copy of it")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + ".restoring")
    at = text(Clock().micros())
    try:
        with output.progress("copying pages") as bar:
            work.take(source, part, bar.update)
        if path.exists():
            output.confirm(f"Put {source} in the place of {path}?", yes=yes)
        with ExitStack() as stack:
            for campaign in work.unfinished(path):
                stack.enter_context(locks.held(path, campaign))
            current = path if path.exists() else None
            done = work.calm(
                part,
                current,
                f"restored from {source.name}",
                at=at,
                in_doubt=clone_guard.is_doubtful(path),
            )
            before = work.put(part, path, known=done.known)
    finally:
        for left in ("", "-wal", "-shm"):
            part.with_name(part.name + left).unlink(missing_ok=True)
    _tell_restored(path, before, done)
    if output.options().json:
        told = {"paused": done.paused, "in_doubt": done.queued, "known_since": done.since}
        told["adopted"] = done.known
        kept = None if before is None else str(before.absolute())
        output.emit({"path": str(path.absolute()), "before": kept, **told})


def _tell_restored(path: Path, before: Path | None, done: Restored) -> None:
    from wabcast import clone_guard

    kept = "" if before is None else f"; the old one is {before}"
    output.note(f"{path} is restored{kept}")
    if done.paused:
        names = ", ".join(done.paused[:5]) + (" ..." if len(done.paused) > 5 else "")
        output.warn(f"paused, nothing leaves until you resume them: {names}")
    if done.queued:
        output.warn(f"{done.queued:,} {IN_DOUBT}")
    if done.since:
        output.note(f"{done.since:,} had left after the copy was made, and are not sent again")
    if not done.known:
        output.warn(
            "what left after the copy was made is not known, and would be sent twice: nothing "
            f"starts before a person has looked; {clone_guard.ADOPT}"
        )


@app.verb("adopt", json=True, examples="wabcast db adopt --yes")
def adopt(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say that this file is the one that sends, and that no other copy of it sends any more.

    A file that was copied, moved to another disk or put back starts nothing before that.
    """
    from wabcast import clone_guard
    from wabcast.clock import Clock, text

    path = output.options().db
    with output.open_store() as db:
        why = clone_guard.doubt(db)
        if why is not None:
            output.warn(f"{path} {why}")
            output.confirm("Does no other copy of it send any more?", yes=yes)
        done = clone_guard.adopt(db, at=text(Clock().micros()))
    if done is None:
        output.note(f"{path} is the one that sends already")
    else:
        _tell_adopted(path, done)
    if output.options().json:
        paused = [] if done is None else [campaign.name for campaign in done.paused]
        told = {"adopted": done is not None, "paused": paused}
        in_doubt = 0 if done is None else done.in_doubt
        output.emit({"path": str(path.absolute()), **told, "in_doubt": in_doubt})


def _tell_adopted(path: Path, done: Adopted) -> None:
    output.note(f"{path} is the one that sends from now on")
    if done.paused:
        names = ", ".join(campaign.name for campaign in done.paused[:5])
        more = " ..." if len(done.paused) > 5 else ""
        output.warn(f"paused, nothing leaves until you resume them: {names}{more}")
    if done.in_doubt:
        output.warn(f"{done.in_doubt:,} {IN_DOUBT}")


app.verb("audit", json=True)(db_audit.audit)
app.verb("prune", json=True, examples=db_prune.EXAMPLES)(db_prune.prune)


@app.verb("vacuum", json=True)
def vacuum() -> None:
    """Give the room of removed rows back to the disk; the file is rewritten."""
    from wabcast.store import soundness

    with output.open_store() as db:
        before, after = soundness.vacuum(db)
    output.note(f"{before:,} bytes before, {after:,} after")
    if output.options().json:
        output.emit({"before": before, "after": after})


@app.verb(
    "sql",
    json=True,
    examples='wabcast db sql "select status, count(*) from campaign_messages group by 1"\n'
    "wabcast db sql - --json < question.sql",
)
def sql(
    question: Annotated[str, typer.Argument(help="One SELECT; - reads it from stdin.")],
) -> None:
    """Ask the file a question in SQL. It can only read."""
    from wabcast.store.query import Answer

    if question == "-":
        question = sys.stdin.read(LONGEST_SQL)
    if not question.strip():
        raise UsageError("there is no SQL", hint='as in wabcast db sql "select 1"')
    answer = Answer(output.options().db, question)
    if output.options().json:
        names = answer.columns
        output.emit_all(dict(zip(names, row, strict=True)) for row in answer.rows())
    else:
        output.table(answer.columns, answer.rows())
