"""The loop that everybody writes first: `requests`, a row at a time, a commit after each.

`python plain.py FILE COUNT URL`; started again it goes on with the rows that are not marked.
"""

from __future__ import annotations

import sys
from typing import Any

import requests
from pysqlite3 import dbapi2

file, count, url = sys.argv[1:]
db = dbapi2.connect(file)
db.execute("pragma journal_mode = wal")
db.execute("pragma synchronous = full")
db.execute("create table if not exists messages (nr integer primary key, wamid text)")
rows = ((nr,) for nr in range(int(count)))
db.executemany("insert or ignore into messages (nr) values (?)", rows)
db.commit()
session = requests.Session()
session.headers["authorization"] = "Bearer a-token-of-no-one"
for (nr,) in db.execute("select nr from messages where wamid is null").fetchall():
    text = f"Hello Ann{nr} Smith, your order {nr} is on its way to Berlin."
    message: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+49151{10_000_000 + nr}",
        "type": "text",
        "text": {"body": text},
    }
    answer = session.post(f"{url}/v25.0/106540352242922/messages", json=message, timeout=30)
    wamid = answer.json()["messages"][0]["id"]
    db.execute("update messages set wamid = ? where nr = ?", (wamid, nr))
    db.commit()
