"""What happens to a number in the sandbox: decided by its last digits, as test cards are.

Pure. One table: the sandbox plays it, `sandbox serve --help` and the README print it. What a
reader must not break: a number's fate is the same on every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Play(StrEnum):
    """How the HTTP answer goes."""

    ANSWER = "answer"
    ERROR = "error"
    CUT = "cut"
    HANG = "hang"
    DRIP = "drip"
    HTML = "html"
    RUBBISH = "rubbish"
    NO_ID = "no_id"
    REDIRECT = "redirect"


class Says(StrEnum):
    """What the person does besides reading."""

    THANKS = "Thanks"
    STOP = "STOP"
    TAPS = "Unsubscribe"
    SETS_STOP = "stops marketing in WhatsApp"


@dataclass(frozen=True, slots=True)
class Fate:
    """`receipts` come by webhook, in this order; the last may be `failed`, with `failure`.

    `code` and `status` are those of an ERROR; `once`: the first message to this number only.
    `reached` says that the message was taken although the answer does not tell.
    """

    story: str
    play: Play = Play.ANSWER
    receipts: tuple[str, ...] = ("sent", "delivered", "read")
    status: int = 200
    code: int = 0
    once: bool = False
    held: bool = False
    failure: int = 0
    says: Says | None = None
    reached: bool = True


READ = Fate("delivered and read")
DELIVERED = Fate("delivered, never read", receipts=("sent", "delivered"))
SENT = Fate("sent, never delivered: the phone is off", receipts=("sent",))
REPLIES = Fate('read, and answered with "Thanks"', says=Says.THANKS)

DIGITS: Mapping[str, Fate] = {
    **dict.fromkeys("012345", READ),
    "6": DELIVERED,
    "7": DELIVERED,
    "8": REPLIES,
    "9": SENT,
}
"""The fate of any other number, by its last digit."""


def _error(code: int, status: int, story: str, *, once: bool = False) -> Fate:
    return Fate(story, Play.ERROR, status=status, code=code, once=once, reached=False)


def _fails(code: int, story: str) -> Fate:
    return Fate(story, receipts=("failed",), failure=code)


def _broken(play: Play, story: str, status: int = 200) -> Fate:
    return Fate(story, play, receipts=(), status=status, reached=False)


CARDS: Mapping[str, Fate] = {
    "0002": REPLIES,
    "0003": Fate('read, and answered with "STOP"', says=Says.STOP),
    "0004": Fate("read, and the Unsubscribe button tapped", says=Says.TAPS),
    "0005": Fate("read, then stops marketing in WhatsApp itself", says=Says.SETS_STOP),
    "0007": _error(130403, 400, "your business has blocked this person (130403)"),
    "0016": _broken(Play.DRIP, "the answer drips, a byte a second"),
    "0026": _fails(131026, "accepted, then undeliverable by webhook (131026)"),
    "1026": _error(131026, 400, "undeliverable at once (131026)"),
    "0033": _error(33, 400, "the number was deleted (33)"),
    "0045": _error(131045, 500, "HTTP 500 that does not pass: certificate (131045)"),
    "0047": _fails(131047, "accepted, then failed: more than 24 hours silent (131047)"),
    "0048": _error(131048, 400, "spam limit: the account halts (131048)"),
    "0049": _fails(131049, "accepted, then held back: too much marketing (131049)"),
    "0050": _fails(131050, "accepted, then failed: stopped marketing (131050)"),
    "1050": _error(131050, 400, "stopped marketing, said at once (131050)"),
    "0056": _error(131056, 400, "pair limit the first time, then fine (131056)", once=True),
    "0100": _error(100, 400, "a parameter is refused (100)"),
    "0132": _error(132015, 400, "the template is paused (132015)"),
    "0190": _error(190, 401, "the token is dead (190)"),
    "0200": _broken(Play.RUBBISH, "200 with rubbish"),
    "1200": _broken(Play.NO_ID, "200 without a message id"),
    "0207": Fate("held for quality assessment, then delivered", held=True),
    "1207": Fate(
        "held for quality assessment, then dropped (132015)",
        receipts=("failed",),
        held=True,
        failure=132015,
    ),
    "0302": _broken(Play.REDIRECT, "a redirect to another host", 302),
    "0368": _error(368, 403, "the account is restricted (368)"),
    "0408": _broken(Play.HANG, "never answered"),
    "0429": _error(130429, 400, "throttled the first time (130429)", once=True),
    "1429": _error(613, 429, "HTTP 429 with Retry-After the first time (613)", once=True),
    "0444": _broken(Play.CUT, "the connection is cut after the request; it never arrives"),
    "1444": Fate("the connection is cut after the request; it arrives, with receipts", Play.CUT),
    "0472": _fails(130472, "accepted, then failed: in an experiment (130472)"),
    "0500": _broken(Play.HTML, "HTTP 500 in HTML; it never arrives", 500),
    "1500": Fate("HTTP 500 in HTML; it arrives, with receipts", Play.HTML, status=500),
    "0503": _error(131016, 503, "unavailable the first time (131016)", once=True),
    "0999": _error(999_999, 400, "a code that nobody knows (999999)"),
    "1999": _error(999_999, 500, "HTTP 500 with a code that nobody knows (999999)"),
}
"""By the last four digits."""

STORMS: Mapping[str, Fate] = {
    "cut": CARDS["0444"],
    "html": CARDS["0500"],
    "rubbish": CARDS["0200"],
    "hang": CARDS["0408"],
    "throttle": CARDS["0429"],
    "unavailable": CARDS["0503"],
    "undeliverable": CARDS["0026"],
}
"""What `--fault NAME=PROBABILITY` strikes anybody with."""


def fate_of(number: str) -> Fate:
    """The fate of a number, its digits with or without the plus."""
    return CARDS.get(number[-4:]) or DIGITS[number[-1]]


def table() -> str:
    """The cards as a person reads them, a line each."""
    lines = [f"…{digits}  {fate.story}" for digits, fate in sorted(CARDS.items())]
    by_story: dict[str, list[str]] = {}
    for digit, fate in DIGITS.items():
        by_story.setdefault(fate.story, []).append(digit)
    lines += [f"any other ending in {' '.join(ds)}: {story}" for story, ds in by_story.items()]
    return "\n".join(lines)
