"""`wabcast db`: the file itself. Nothing here knows what the rows mean."""

from __future__ import annotations

from wabcast.cli import Verbs, output

app = Verbs(
    "The database file: where it is, whether it is sound, copies of it.",
    examples="wabcast db path",
)


@app.verb("path", json=True)
def path() -> None:
    """Print where the database is; it need not exist yet."""
    where = str(output.options().db.absolute())
    if output.options().json:
        output.emit({"path": where})
    else:
        output.line(where)
