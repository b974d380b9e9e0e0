"""`recipients --csv`: the people's own columns, and what became of each, ready to import again.

The first columns are those of `contact export`, by which `contact import` knows a file of ours
and takes every column for what it was. What must not break: a fate's column never stands twice,
though a file with fates was imported once.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from wabcast.cli.cells import guard
from wabcast.cli.contact_files import EXPORTED
from wabcast.cli.output import ReaderGone

if TYPE_CHECKING:
    from wabcast.store.database import Row

FATE = (
    "status",
    "error_code",
    "error_message",
    "whatsapp_message_id",
    "variant",
    "pricing",
    "sent_at",
    "delivered_at",
    "read_at",
    "replied_at",
    "failed_at",
)
FATES = tuple(f"wabcast_{name}" for name in FATE)


def write_csv(file: IO[str], rows: Iterable[Row], keys: Iterable[str]) -> int:
    """Own columns, attributes (`keys`), then `wabcast_...` with the fate.

    Returns how many were left out: they were removed since, and have no number to go by.
    """
    attributes = [key for key in keys if key not in EXPORTED and key not in FATES]
    out = csv.writer(file, lineterminator="\n")
    gone = 0
    try:
        out.writerow([*EXPORTED, *map(guard, attributes), *FATES])
        for row in rows:
            if row["phone"] is None:
                gone += 1
                continue
            more = json.loads(row["attributes"])
            cells = [
                *(row[name] for name in EXPORTED),
                *(more.get(key) for key in attributes),
                *(row[name] for name in FATE),
            ]
            out.writerow(["" if cell is None else guard(str(cell)) for cell in cells])
    except BrokenPipeError as exc:
        raise ReaderGone from exc
    return gone
