"""What a provider carries to one person: a rendered message.

The body is a Cloud API message object without its envelope, `{"type": "text", "text": {...}}`
(PROVIDERS 1.3 to 1.7): the one form that every provider translates from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """A message for one person, ready to go.

    `to` is E.164 with its plus. `body` holds `type` and the object of that name.
    `ref` comes back in receipts: `wabcast:<campaign id>:<message id>:<attempt>`.
    """

    to: str
    body: Mapping[str, Any]
    ref: str
