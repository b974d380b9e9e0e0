"""`wabcast db audit`: the proof of the whole file. Hung on the noun by `cli/db.py`."""

from __future__ import annotations

from functools import partial

from wabcast.cli import output
from wabcast.errors import Exit


def audit() -> Exit:
    """Prove every ledger, and what holds between the tables: exit 0 if all is sound, 1 if not.

    --json: `ok`, `findings`, `campaigns`, `messages` (how many were looked at), `proved`.
    """
    from wabcast import locks
    from wabcast.store import audits

    path = output.options().db
    with output.open_store() as db:
        proof = audits.audit_file(db, partial(locks.is_held, path))
    ok = not proof.findings
    proved = [*audits.PROVED, *audits.PROVED_OF_FILE]
    if output.options().json:
        counts = {"campaigns": proof.campaigns, "messages": proof.messages}
        told = {"ok": ok, "findings": proof.findings, **counts}
        output.emit(told | {"proved": proved if ok else []})
    else:
        for finding in proof.findings:
            output.line(finding)
        output.line("ok" if ok else f"{len(proof.findings)} findings")
    said = "proved" if ok else "looked at"
    for law in proved:
        output.note(f"{said}: {law}")
    output.note(f"{proof.campaigns:,} campaigns, {proof.messages:,} messages")
    return Exit.DONE if ok else Exit.ERROR
