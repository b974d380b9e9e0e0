"""How a number of the Cloud API is, from what it says of itself (PROVIDERS 4).

What a reader must not break: the health entities decide whether it can send. The summary above
them says BLOCKED when only calling is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wabcast.delivery import Deferred, Halted, Lost, Rejected
from wabcast.providers.base import Health
from wabcast.providers.cloud_codes import advice

FIELDS_OF_ALL_VERSIONS = (
    "id",
    "display_phone_number",
    "verified_name",
    "quality_rating",
    "status",
    "throughput",
    "name_status",
    "code_verification_status",
    "platform_type",
    "account_mode",
    "health_status",
)
FIELDS = (
    *FIELDS_OF_ALL_VERSIONS,
    "whatsapp_business_manager_messaging_limit",
    "is_on_biz_app",
)

_SPOKEN = ("display_phone_number", "verified_name", "name_status", "account_mode", "platform_type")
_UNSUBSCRIBED = (
    "no app is subscribed to this account's webhooks: no receipt, reply or opt-out will ever come."
    " Subscribe it: POST /WABA_ID/subscribed_apps."
)
_SLOWED = "the number's quality is {}: it sends at half its pace."
_STATUS_ADVICE = {
    "DISCONNECTED": "Register the number again (POST /PHONE_NUMBER_ID/register, with its PIN).",
    "PENDING": "Finish its registration in the WhatsApp Manager.",
    "BANNED": "Appeal in the Business support page.",
    "RESTRICTED": "Look at the Business support page for the reason and its end.",
    "RATE_LIMITED": "It reached its messaging limit: wait, up to 24 hours.",
    "FLAGGED": "Its quality is low: send less, and only to people who want it.",
}


def field_unknown(status: int, payload: object) -> bool:
    """Whether a version of the API does not know a field that we asked for."""
    error = payload.get("error") if isinstance(payload, dict) else None
    message = str(error.get("message", "")).casefold() if isinstance(error, dict) else ""
    return status == 400 and "field" in message and "nonexisting" in message


def unreachable(base: str, why: str) -> Health:
    problem = f"{base} cannot be reached: {why}. Check the network, the proxy and the base URL."
    return Health(ok=False, status="UNREACHABLE", problems=(problem,))


def refused(verdict: Deferred | Rejected | Halted | Lost) -> Health:
    """WhatsApp would not say how the number is; `verdict` is why."""
    match verdict.code:
        case "0" | "190" | "104" | "401":
            status = "TOKEN"
        case "100" | "33":
            status = "UNKNOWN_NUMBER"
        case _:
            status = "REFUSED"
    sentence = f"{verdict.reason} [{verdict.code}]. {advice(verdict.code)}".strip()
    if verdict.code == "100":
        sentence += " Compare --phone-number-id with the WhatsApp Manager."
    return Health(ok=False, status=status, problems=(sentence,), details={"code": verdict.code})


def read(payload: object, apps: object) -> Health:
    """`payload` is the number's answer, `apps` that of `/subscribed_apps`, None if not asked."""
    number: Mapping[str, Any] = payload if isinstance(payload, dict) else {}
    status = _word(number.get("status")) or ("CONNECTED" if number.get("id") else "UNKNOWN")
    quality = _word(number.get("quality_rating"))
    can_send, troubles = _entities(number.get("health_status"))
    fatal, notes = [], []
    if status != "CONNECTED":
        hint = _STATUS_ADVICE.get(status, "Look at the number in the WhatsApp Manager.")
        fatal.append(f"the number's status is {status}, not CONNECTED. {hint}")
    if can_send == "BLOCKED":
        fatal.append(f"WhatsApp blocks sending: {'; '.join(troubles) or 'it does not say why'}")
    elif can_send == "LIMITED":
        notes.append(f"WhatsApp limits sending: {'; '.join(troubles) or 'it does not say why'}")
    if _word(number.get("platform_type")) not in {"", "CLOUD_API", "NOT_APPLICABLE"}:
        fatal.append("the number is not on the Cloud API. Register it there first.")
    if quality == "RED":
        notes.append(f"{_SLOWED.format(quality)} Send less, and only to people who want it.")
    elif quality == "YELLOW":
        notes.append(_SLOWED.format(quality))
    if number.get("is_on_biz_app") is True:
        notes.append("the number is also used in the Business app: at most 20 messages a second.")
    subscribed = _subscribed(apps)
    if subscribed is False:
        notes.append(_UNSUBSCRIBED)
    throughput = number.get("throughput")
    level = _word(throughput.get("level")) if isinstance(throughput, dict) else ""
    return Health(
        ok=not fatal,
        status=status,
        quality="UNKNOWN" if quality in {"", "NA"} else quality,
        throughput=level or "UNKNOWN",
        tier=_word(number.get("whatsapp_business_manager_messaging_limit")) or None,
        can_send=can_send,
        subscribed=subscribed,
        coexists=number.get("is_on_biz_app") is True,
        problems=(*fatal, *notes),
        details={key: number[key] for key in _SPOKEN if isinstance(number.get(key), str)},
    )


def _entities(health: object) -> tuple[str, list[str]]:
    """The worst of the entities, and what they say about it."""
    entities = health.get("entities") if isinstance(health, dict) else None
    worst, troubles = "UNKNOWN", []
    for entity in _list(entities):
        if not isinstance(entity, dict):
            continue
        word = _word(entity.get("can_send_message"))
        if word not in _RANK:
            continue
        worst = max(worst, word, key=_RANK.__getitem__)
        if word == "AVAILABLE":
            continue
        kind = _word(entity.get("entity_type")).lower().replace("_", " ")
        for error in _list(entity.get("errors")):
            if isinstance(error, dict):
                said = [error.get("error_description"), error.get("possible_solution")]
                words = " ".join(str(text) for text in said if text)
                troubles.append(f"{kind}: {words} [{error.get('error_code')}]")
        troubles += [f"{kind}: {text}" for text in _list(entity.get("additional_info"))]
    return worst, troubles


_RANK = {"UNKNOWN": 0, "AVAILABLE": 1, "LIMITED": 2, "BLOCKED": 3}


def _subscribed(apps: object) -> bool | None:
    data = apps.get("data") if isinstance(apps, dict) else None
    return bool(data) if isinstance(data, list) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: object) -> str:
    return value.strip().upper() if isinstance(value, str) else ""
