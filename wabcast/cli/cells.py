"""Cells of a CSV that a spreadsheet must not take for formulas.

`guard` on the way out, `unguard` on the way in: what must not break is that the second undoes
the first for every text there is.
"""

from __future__ import annotations

import re

# OWASP's list ("CSV Injection"), with the wide forms that Excel reads alike.
_BEGINS = frozenset("=+-@\t\r\n＝＋－＠")
# Digits and signs can name no function and no cell: phone numbers and amounts stay as they are.
_HARMLESS = re.compile(r"[+-]?[0-9][0-9 ().,/-]*")


def guard(text: str) -> str:
    """`text` with an apostrophe before it where a spreadsheet would run it."""
    risky = text[:1] in _BEGINS and not _HARMLESS.fullmatch(text)
    return f"'{text}" if text and (risky or _guarded(text)) else text


def unguard(text: str) -> str:
    return text[1:] if _guarded(text) else text


def _guarded(text: str) -> bool:
    return text[:1] == "'" and len(text) > 1 and (text[1] in _BEGINS or text[1] == "'")
