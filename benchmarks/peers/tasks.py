"""Celery on Redis: a task a message, `requests` in a prefork pool, results kept in Redis.

`python tasks.py COUNT` puts the messages in the queue; `celery -A tasks worker` works them off.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import requests
from celery import Celery

REDIS = os.environ["PEER_REDIS"]
URL = os.environ["PEER_URL"] + "/v25.0/106540352242922/messages"

app = Celery("tasks", broker=REDIS, backend=REDIS)
session = requests.Session()


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def send(nr: int) -> str:
    text = f"Hello Ann{nr} Smith, your order {nr} is on its way to Berlin."
    message: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+49151{10_000_000 + nr}",
        "type": "text",
        "text": {"body": text},
    }
    headers = {"authorization": "Bearer a-token-of-no-one"}
    answer = session.post(URL, json=message, headers=headers, timeout=30)
    return str(answer.json()["messages"][0]["id"])


if __name__ == "__main__":
    with app.pool.acquire(block=True) as connection:
        producer = connection.Producer()
        for number in range(int(sys.argv[1])):
            send.apply_async((number,), producer=producer)
