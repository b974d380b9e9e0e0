"""What it costs to say a campaign to everybody: `python -m benchmarks.saying DB NAME`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from wabcast import content
from wabcast.store import campaigns, database, ledger


def main(path: Path, name: str) -> None:
    db = database.connect(path)
    campaign = campaigns.get(db, name)
    say = content.renderer(content.load(db, campaign))
    with database.immediate(db):
        db.execute(
            "update campaign_messages set status = 'pending' where campaign_id = ?",
            (campaign.number,),
        )
    owed = ledger.due(db, campaign.number, now="9", after=("", 0), limit=1_000_000)
    before = time.thread_time()
    for message in owed:
        say(message)
    print(json.dumps({"say": (time.thread_time() - before) / len(owed) * 1e6}))


main(Path(sys.argv[1]), sys.argv[2])
