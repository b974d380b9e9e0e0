"""`wabcast db`: the file itself. Nothing here knows what the rows mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wabcast.cli import Verbs, output
from wabcast.errors import Exit, Refused, UsageError

app = Verbs(
    "The database file: where it is, whether it is sound, copies of it.",
    examples="wabcast db check\n"
    "wabcast db backup /backup/wabcast-monday.db\n"
    'wabcast db sql "select name, status from campaigns"',
)

LONGEST_SQL = 1_000_000


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
    """Read the whole file and say whether it is sound: exit 0 if it is, 1 if not."""
    from wabcast.store.database import connect_read_only
    from wabcast.store.soundness import findings

    db = connect_read_only(output.options().db)
    try:
        found = findings(db)
    finally:
        db.close()
    if output.options().json:
        output.emit({"ok": not found, "path": str(output.options().db), "findings": found})
    else:
        for finding in found:
            output.line(finding)
    if found:
        output.warn("not sound; put back a backup made by `wabcast db backup`")
        return Exit.ERROR
    output.note(f"{output.options().db} is sound")
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
    with output.open_store() as db:
        database.backup(db, target)
    size = target.stat().st_size
    output.note(f"copied {size:,} bytes to {target}")
    if output.options().json:
        output.emit({"path": str(target.absolute()), "bytes": size})


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
