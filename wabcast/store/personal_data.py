"""By what a person may be named in texts that were not written about them: logs, bodies, reasons.

Pure but for the hashes. What must not break: a number is taken out as a whole number, never as a
part of somebody else's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

REMOVED = "removed"
"""What stands in place of a name."""

NAMELESS = "contact removed"
"""The reason of whatever became of a message after its person was erased."""

SHORTEST = 6
"""Characters of a name that is looked for: a shorter one is anybody's."""


def erased_id(message_id: str) -> str:
    """What is kept of WhatsApp's id of a message to somebody who was erased: a receipt that has
    nothing else still finds its row. The id itself holds the number (`wamid.` and base64). Also
    of an Idempotency-Key."""
    return "erased:" + hashlib.sha256(message_id.encode("utf-8", "replace")).hexdigest()


class PersonalData:
    """What names one person. `phones` are E.164, in every spelling; `ids` are WhatsApp's."""

    def __init__(
        self, phones: Iterable[str], ids: Iterable[str] = (), texts: Iterable[str] = ()
    ) -> None:
        digits = [phone.lstrip("+") for phone in phones]
        words = [*(one for one in ids if one), *(text for text in texts if len(text) >= SHORTEST)]
        codes = [code for number in digits for code in _encoded(number)]
        self.codes = json.dumps(codes)
        """JSON: what the number is in the id of a message; those of neighbours may be the same."""
        self.names = json.dumps(list(dict.fromkeys([*digits, *words, *codes])))
        """JSON: what a text that names them has in it. `names_in` looks closer."""
        numbers = "|".join(map(re.escape, digits))
        self._number = re.compile(rf"(?<!\d)(?:{numbers})(?!\d)")
        rest = "".join(f"|{re.escape(word)}" for word in words)
        self._name = re.compile(rf"\+?{self._number.pattern}{rest}")

    def names_in(self, text: str) -> bool:
        """Whether they are named: not a longer number, nor somebody whose number begins alike."""
        found = _MESSAGE_ID.findall(text.replace("\\/", "/"))
        return bool(self._name.search(text)) or any(map(self._is_theirs, found))

    def scrub(self, text: str, instead: str = REMOVED) -> str:
        """`text` with `instead` wherever it names them."""

        def id_of(found: re.Match[str]) -> str:
            return instead if self._is_theirs(found[0]) else found[0]

        return self._name.sub(instead, _MESSAGE_ID.sub(id_of, text))

    def scrub_all(self, value: Any) -> Any:
        """JSON with each text that names them replaced as a whole."""
        match value:
            case str():
                return REMOVED if self.names_in(value) else value
            case dict():
                return {key: self.scrub_all(inner) for key, inner in value.items()}
            case list():
                return [self.scrub_all(inner) for inner in value]
            case _:
                return value

    def _is_theirs(self, message_id: str) -> bool:
        code = message_id.removeprefix("wamid.").rstrip("=")
        try:
            held = base64.b64decode(code[: len(code) - (len(code) % 4 == 1)] + "==")
        except ValueError:
            return False
        return bool(self._number.search(held.decode("latin-1")))


_MESSAGE_ID = re.compile(r"wamid\.[A-Za-z0-9+/]+=*")


def _encoded(digits: str) -> Iterator[str]:
    """The part of base64 that is the same whatever stands before and behind the digits."""
    for skipped in range(3):
        whole = digits[skipped:]
        yield base64.b64encode(whole[: len(whole) // 3 * 3].encode()).decode()
