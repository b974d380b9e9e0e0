"""What the Cloud API's error codes mean for a message: the one table (PROVIDERS 2.2).

The code decides, not the HTTP status: some faults that last come as a 500, some that pass as
a 400. What a reader must not break: only a code in this table, or Meta's own `is_transient`,
may turn an error into `Deferred`; a 5xx that does not explain itself may have sent the message.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, assert_never

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict


class Fault(StrEnum):
    """The classes of PROVIDERS 2.2."""

    THROTTLE = "T"
    PAIR = "Tp"
    TRANSIENT = "R"
    RECIPIENT = "P"
    OPT_OUT = "O"
    MESSAGE = "M"
    CAMPAIGN = "C"
    ACCOUNT = "A"


@dataclass(frozen=True, slots=True)
class Meaning:
    """`wait` is in seconds; `halt_after` how many in a row are no accident; `leave_alone` is for
    how long WhatsApp asks to send nothing more to this person."""

    fault: Fault
    reason: str
    advice: str = ""
    wait: int | None = None
    halt_after: int = 20
    leave_alone: timedelta | None = None


_T, _TP, _R, _P, _O, _M, _C, _A = Fault

_RENEW = "Make a new token of a system user in the Business settings and set it with account edit."
_RIGHTS = (
    "Give the system user whatsapp_business_messaging and whatsapp_business_management,"
    " and the number's account as an asset."
)
_QUALITY = "Look at the number's quality in the WhatsApp Manager before sending more."
_REGISTER = "Register the number again (POST /PHONE_NUMBER_ID/register, with its PIN)."
_TEMPLATE = "Compare the parameters with `template show`."
_WAIT = "Nothing to do: it is tried again."
_SLOWER = "Nothing to do: the account slows down by itself. Lower its --rate if it comes often."
_MARKETING = "Use the /marketing_messages endpoint for it, or another template."
_FETCH = "Upload the file instead of linking it."

CODES: Mapping[int, Meaning] = {
    # throttling
    4: Meaning(_T, "the app makes too many calls", _SLOWER, wait=60),
    80007: Meaning(_T, "the WhatsApp account makes too many calls", _SLOWER),
    130429: Meaning(_T, "the number sends faster than its throughput allows", _SLOWER),
    613: Meaning(_T, "too many calls", _SLOWER),
    131057: Meaning(_T, "the number is being maintained for a minute", _WAIT, wait=60),
    131056: Meaning(_TP, "too many messages to this person in a short time", _WAIT),
    133016: Meaning(_A, "the number was registered and deregistered too often", "Wait 72 hours."),
    # spam and quality
    131048: Meaning(_A, "people blocked or reported this number: it is limited", _QUALITY),
    131064: Meaning(
        _A, "limited because templates were put in the wrong category", "It is lifted by itself."
    ),
    131049: Meaning(
        _P,
        "WhatsApp held it back: this person gets too much marketing, or is in the US",
        "Not before 24 hours, and then only if it matters.",
        leave_alone=timedelta(hours=24),
    ),
    130472: Meaning(_P, "this person is in an experiment of WhatsApp's and gets no marketing"),
    # the person
    131026: Meaning(
        _P,
        "cannot be delivered: not on WhatsApp, an old client, or terms not accepted",
        "Check the number with the person.",
    ),
    131047: Meaning(
        _P,
        "more than 24 hours since this person last wrote",
        "Outside of that window only templates are delivered: use --template.",
    ),
    131050: Meaning(_O, "this person stopped marketing messages from you"),
    130403: Meaning(_O, "your business has blocked this person", "Unblock them to write again."),
    131021: Meaning(_P, "the recipient is the sending number itself"),
    131030: Meaning(
        _M,
        "this number is not on the test number's list of recipients",
        "Add it in the app's API setup, or use a real number.",
    ),
    131062: Meaning(_P, "this kind of message needs the person's phone number"),
    137000: Meaning(_P, "this person's identity changed", "Confirm who they are."),
    130497: Meaning(_M, "this account may not message people in that country"),
    131051: Meaning(_M, "WhatsApp does not know this type of message", halt_after=3),
    131052: Meaning(_M, "a medium that was received cannot be downloaded"),
    131053: Meaning(_M, "the medium could not be fetched or is not allowed", _FETCH, halt_after=5),
    131014: Meaning(_M, "the medium could not be fetched", _FETCH, halt_after=5),
    # the request
    100: Meaning(_M, "WhatsApp refuses a parameter", "See what it names.", halt_after=3),
    131008: Meaning(_M, "a required parameter is missing", "See what it names."),
    131009: Meaning(_M, "a parameter has an invalid value", "See what it names."),
    132000: Meaning(_M, "the number of parameters is not the template's", _TEMPLATE, halt_after=1),
    132005: Meaning(_M, "the text is too long once the parameters are filled in", _TEMPLATE),
    132008: Meaning(_M, "a template parameter has an invalid value", _TEMPLATE),
    132012: Meaning(_M, "a template parameter is of the wrong kind", _TEMPLATE, halt_after=3),
    132018: Meaning(
        _M,
        "a template parameter holds a line break, a tab or a run of spaces",
        _TEMPLATE,
        halt_after=3,
    ),
    135000: Meaning(_R, "WhatsApp does not say what is wrong with the request", _WAIT),
    # the template
    132001: Meaning(
        _C,
        "no such template in this language, or not approved",
        "Run `template sync` and look at `template list`.",
    ),
    132007: Meaning(_C, "the template's content violates WhatsApp's policy", "Change it."),
    132015: Meaning(
        _C,
        "the template is paused: people reacted badly to it",
        "Resume the campaign when it is active again (where webhooks tell of it, `wabcast run`"
        " does), or use another template.",
    ),
    132016: Meaning(_C, "the template is disabled for good", "Use another template."),
    132068: Meaning(_C, "the template's flow is blocked", "Mend the flow."),
    132069: Meaning(_C, "the template's flow is limited to 10 messages an hour", "Mend the flow."),
    131063: Meaning(_C, "marketing templates are switched off on /messages", _MARKETING),
    131055: Meaning(_C, "only marketing templates go over this endpoint", "Use /messages."),
    134100: Meaning(_C, "only marketing templates go over this endpoint", "Use /messages."),
    134101: Meaning(_C, "the template is still being synced", "Resume in 10 minutes."),
    134102: Meaning(_C, "the template is not available on this endpoint", "Use /messages."),
    # the account
    0: Meaning(_A, "WhatsApp does not accept the access token", _RENEW),
    190: Meaning(_A, "the access token is expired or revoked", _RENEW),
    104: Meaning(_A, "no access token reached WhatsApp", _RENEW),
    3: Meaning(_A, "the app may not do this", _RIGHTS),
    10: Meaning(_A, "a permission is missing or was taken away", _RIGHTS),
    131005: Meaning(_A, "access denied", _RIGHTS),
    33: Meaning(_A, "the number was deleted", "Look at the numbers in the WhatsApp Manager."),
    368: Meaning(_A, "the account is restricted for violating a policy", _QUALITY),
    131031: Meaning(_A, "the account is locked", "Look at the Business support page."),
    131037: Meaning(_A, "the number's display name is not approved", "Have it approved."),
    131042: Meaning(_A, "a payment problem", "Check the payment method in the Business settings."),
    131044: Meaning(_A, "a payment problem", "Check the payment method in the Business settings."),
    131045: Meaning(_A, "the number is not registered properly", _REGISTER),
    133010: Meaning(_A, "the number is not registered", _REGISTER),
    133006: Meaning(_A, "the number has to be verified first", _REGISTER),
    133000: Meaning(_A, "an earlier deregistration did not finish", _REGISTER),
    133005: Meaning(_A, "the number's PIN is wrong", _REGISTER),
    133008: Meaning(_A, "the PIN was guessed too often", _REGISTER),
    133009: Meaning(_A, "the PIN was entered too fast", _REGISTER),
    133015: Meaning(_A, "the number was just deleted", "Wait 5 minutes, then register it."),
    134011: Meaning(_A, "WhatsApp's payment terms are not accepted", "Accept them."),
    # passing
    1: Meaning(_R, "WhatsApp failed, or did not understand the request", _WAIT),
    2: Meaning(_R, "WhatsApp is down or overloaded", _WAIT),
    131000: Meaning(_R, "WhatsApp failed for a reason it does not know", _WAIT),
    131016: Meaning(_R, "a service of WhatsApp's is not available", _WAIT),
    133004: Meaning(_R, "WhatsApp's server is not available", _WAIT),
}

_NUMBER = re.compile(r"^\(#\d+\) ")  # the code stands beside it anyway
_PERMISSION = Meaning(_A, "a permission is missing or was taken away", _RIGHTS)
_NO_NUMBER = Meaning(
    _A,
    "the phone number id is unknown, or this token may not use it",
    "Compare --phone-number-id with the WhatsApp Manager; it is not the phone number itself.",
)

TRANSIENT = frozenset(
    str(code) for code, meaning in CODES.items() if meaning.fault in {_T, _TP, _R}
) | {"connect", "429", "131053", "131014"}
"""Codes after which the same message may go through another time."""

LEAVE_ALONE = {
    str(code): meaning.leave_alone for code, meaning in CODES.items() if meaning.leave_alone
}
"""After which codes a person is left alone, and for how long."""

# Said by a proxy or a wrong address, not by WhatsApp: nobody's message is at fault.
_NOT_THERE = {
    401: "the server refuses the access token",
    403: "the server refuses access",
    404: "there is no Cloud API at this base URL",
    405: "there is no Cloud API at this base URL",
    407: "a proxy on the way wants a password",
}


def meaning(code: int, text: str = "") -> Meaning | None:
    """What `code` means, where `text` (message and details) may tell two meanings apart."""
    if code == 100 and "unsupported post request" in text.casefold():
        return _NO_NUMBER
    if code in {131053, 131014} and _may_be_fetched_later(text):
        found = CODES[code]
        return Meaning(_R, found.reason, found.advice)
    if 200 <= code <= 299:
        return _PERMISSION
    return CODES.get(code)


def _may_be_fetched_later(text: str) -> bool:
    text = text.casefold()
    return any(word in text for word in ("http code 429", "http code 5", "error: 429", "error: 5"))


def verdict(status: int, payload: object, headers: Mapping[str, str]) -> Verdict:
    """What an answer to a send means. `payload` is its JSON, None where it is none."""
    if 200 <= status < 300:
        return _accepted(status, payload)
    if 300 <= status < 400:
        return Halted("redirect", f"the base URL answers with a redirect (HTTP {status})")
    error = payload.get("error") if isinstance(payload, dict) else None
    code = _code(error)
    if not isinstance(error, dict) or code is None:
        return _unexplained(status, headers)
    text = _text(error)
    found = meaning(code, text)
    if status == 429 and (found is None or found.fault in {_T, _R, _P, _O, _M}):
        reason = found.reason if found and found.fault is _T else "too many calls"
        return Deferred(str(code), _say(reason, text), asked_wait(headers), Scope.ACCOUNT)
    if found is not None:
        return _judge(code, found, text, headers)
    if error.get("is_transient") is True:
        return Deferred(str(code), _say("WhatsApp says that it will pass", text))
    if status >= 500:
        return Lost(_say(f"HTTP {status} with an unknown error", text), str(code))
    return Rejected(str(code), _say("WhatsApp refuses it", text), Scope.MESSAGE)


def verdict_from_receipt(errors: object) -> Deferred | Rejected | Halted:
    """What the `errors` of a failed receipt mean (PROVIDERS 2.4): the first that has a code."""
    for error in errors if isinstance(errors, list) else ():
        code = _code(error)
        if code is None:
            continue
        text = _text(error)
        found = meaning(code, text)
        if found is None:
            return Rejected(str(code), _say("WhatsApp could not deliver it", text))
        return _judge(code, found, text, {})
    return Rejected("unknown", "WhatsApp could not deliver it and does not say why")


def advice(code: str) -> str:
    """What to do about `code`, a sentence or two; empty where there is nothing to say."""
    if code == "redirect":
        return "Correct --base-url; a token is never carried along a redirect."
    if code.isascii() and code.isdigit():
        found = meaning(int(code))
        return found.advice if found else ""
    return ""


def _accepted(status: int, payload: object) -> Verdict:
    messages = payload.get("messages") if isinstance(payload, dict) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    message_id = first.get("id") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message_id, str) or not message_id.strip():
        return Lost(f"HTTP {status} without a message id", "no_id")
    return Accepted(message_id, held=first.get("message_status") == "held_for_quality_assessment")


def _unexplained(status: int, headers: Mapping[str, str]) -> Verdict:
    if status == 429:
        return Deferred("429", "too many calls", asked_wait(headers), Scope.ACCOUNT)
    if status in _NOT_THERE:
        return Halted(str(status), f"{_NOT_THERE[status]} (HTTP {status})")
    if 400 <= status < 500 and status != 408:
        return Rejected(str(status), f"refused with HTTP {status}", Scope.MESSAGE)
    return Lost(f"HTTP {status} without an explanation", str(status))


def _judge(
    code: int, found: Meaning, text: str, headers: Mapping[str, str]
) -> Deferred | Rejected | Halted:
    name, reason = str(code), _say(found.reason, text)
    match found.fault:
        case Fault.THROTTLE:
            least = timedelta(seconds=found.wait) if found.wait else None
            asked = asked_wait(headers)
            after = max(least, asked) if least and asked else least or asked
            return Deferred(name, reason, after, Scope.ACCOUNT)
        case Fault.PAIR:
            return Deferred(name, reason, None, Scope.RECIPIENT)
        case Fault.TRANSIENT:
            return Deferred(name, reason, asked_wait(headers))
        case Fault.RECIPIENT:
            return Rejected(name, reason)
        case Fault.OPT_OUT:
            return Rejected(name, reason, opt_out=True)
        case Fault.MESSAGE:
            return Rejected(name, reason, Scope.MESSAGE, halt_after=found.halt_after)
        case Fault.CAMPAIGN:
            return Halted(name, reason, Scope.CAMPAIGN)
        case Fault.ACCOUNT:
            return Halted(name, reason, Scope.ACCOUNT)
        case _:
            assert_never(found.fault)


def asked_wait(headers: Mapping[str, str]) -> timedelta | None:
    """How long WhatsApp asks us to wait, at most a day: Retry-After in seconds, or the minutes
    of `estimated_time_to_regain_access` (PROVIDERS 2.5)."""
    waits = [_number(headers.get("retry-after"))]
    try:
        usage = json.loads(headers.get("x-business-use-case-usage") or "{}")
    except (ValueError, RecursionError):
        usage = {}
    for cases in usage.values() if isinstance(usage, dict) else ():
        for case in cases if isinstance(cases, list) else ():
            minutes = case.get("estimated_time_to_regain_access") if isinstance(case, dict) else 0
            waits.append(_number(minutes) * 60)
    longest = min(max(waits), 86_400.0)
    return timedelta(seconds=longest) if longest > 0 else None


def _number(value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):  # a date, or nonsense
        return 0.0
    return number if math.isfinite(number) else 0.0


def _code(error: object) -> int | None:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def _text(error: Mapping[str, Any]) -> str:
    """Meta's words: the details say most, then the message, then the title (ERR26)."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    for words in (details, error.get("message"), error.get("title")):
        if isinstance(words, str) and words.strip():
            return _NUMBER.sub("", " ".join(words.split()))[:300]
    return ""


def _say(reason: str, text: str) -> str:
    return f"{reason} ({text})" if text else reason
