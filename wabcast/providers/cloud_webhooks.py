"""The Cloud API's webhooks, from body to news (PROVIDERS part 3).

A body holds up to a thousand updates in any nesting, with nulls, absent keys and things
nobody has documented yet. What a reader must not break: an item that cannot be read is
passed over alone; the ones beside it are somebody's STOP.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any

from wabcast.providers.cloud_codes import verdict_from_receipt
from wabcast.receipts import (
    AccountNews,
    Inbound,
    Moved,
    News,
    Preference,
    Receipt,
    Status,
    TemplateNews,
    Wish,
    moment,
    person,
    read_ref,
)

_STATUSES = {status.value: status for status in Status}
_WISHES = {wish.value: wish for wish in Wish}
_HALTING_EVENTS = {
    "ACCOUNT_RESTRICTION",
    "DISABLED_UPDATE",
    "ACCOUNT_DELETED",
    "ACCOUNT_OFFBOARDED",
    "PARTNER_REMOVED",
}
# A fall of the quality, and its recovery; to what, the next check tells.
_QUALITIES = {"FLAGGED": "RED", "UNFLAGGED": "YELLOW"}
_ACCOUNT_FIELDS = {
    "phone_number_quality_update",
    "business_capability_update",
    "account_update",
    "account_alerts",
    "account_review_update",
}


def signed(app_secret: str, signature: str, body: bytes) -> bool:
    """Whether `X-Hub-Signature-256` is right for these raw bytes, in constant time."""
    wanted = sign(app_secret, body)
    return hmac.compare_digest(wanted.encode(), signature.strip().encode("utf-8", "replace"))


def sign(app_secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()


def parse(payload: object) -> list[News]:
    """Every piece of news in a webhook's body, in its order. Never raises."""
    news: list[News] = []
    for entry in _dicts(_get(payload, "entry")):
        for change in _dicts(entry.get("changes")):
            value = change.get("value")
            if isinstance(value, dict):
                news.extend(_change(change.get("field"), value))
    return news


def _change(kind: object, value: Mapping[str, Any]) -> Iterator[News]:
    metadata = value.get("metadata")
    sender = _text(_get(metadata, "phone_number_id")) or None
    contacts = _dicts(value.get("contacts"))
    for item in _dicts(value.get("statuses")):
        if receipt := _receipt(item, contacts, sender):
            yield receipt
    for item in _dicts(value.get("messages")):
        yield from _inbound(item, contacts, sender)
    for item in _dicts(value.get("user_preferences")):
        yield from _preference(item, contacts, sender)
    if kind == "user_id_update":
        ids = value.get("user_id")
        yield from _moved(_get(ids, "previous"), _get(ids, "current"))
    elif isinstance(kind, str):
        yield from _template(kind, value)
        if kind in _ACCOUNT_FIELDS:
            yield _account(kind, value)


def _receipt(
    item: Mapping[str, Any], contacts: list[dict[str, Any]], sender: str | None
) -> Receipt | None:
    message_id, status = item.get("id"), item.get("status")
    if not isinstance(message_id, str) or not message_id or not isinstance(status, str):
        return None
    known = _STATUSES.get(status)
    if known is None:  # `deleted`, and whatever comes next
        return None
    who = (item.get("recipient_id"), item.get("recipient_user_id"))
    pricing = item.get("pricing")
    return Receipt(
        message_id=message_id,
        status=known,
        at=moment(item.get("timestamp")),
        ref=read_ref(item.get("biz_opaque_callback_data")),
        person=person(*who, *_ids(_matching(contacts, who))) if contacts else person(*who),
        error=verdict_from_receipt(item.get("errors")) if known is Status.FAILED else None,
        category=_text(_get(pricing, "category")) or None,
        pricing=_text(_get(pricing, "type")) or None,
        sender=sender,
    )


def _inbound(
    item: Mapping[str, Any], contacts: list[dict[str, Any]], sender: str | None
) -> Iterator[Inbound | Moved]:
    message_id, kind = item.get("id"), _text(item.get("type")) or "unknown"
    if not isinstance(message_id, str) or not message_id:
        return
    who = (item.get("from"), item.get("from_user_id"), item.get("from_parent_user_id"))
    if kind == "system":
        system = item.get("system")
        new = (_get(system, "wa_id"), _get(system, "user_id"))
        if any(new):
            yield Moved(person(*who), person(*new))
        return
    known = _matching(contacts, who)
    if not person(*who) and len(contacts) == 1:
        known = contacts
    text, payload = _words(kind, item.get(kind))
    yield Inbound(
        message_id=message_id,
        person=person(*who, *_ids(known)),
        at=moment(item.get("timestamp")),
        kind=kind,
        text=text,
        payload=payload,
        context_id=_text(_get(item.get("context"), "id")) or None,
        name=_text(_get(_get(known[0], "profile"), "name")) if known else "",
        sender=sender,
    )


def _preference(
    item: Mapping[str, Any], contacts: list[dict[str, Any]], sender: str | None
) -> Iterator[Preference]:
    wish = _WISHES.get(_text(item.get("value")))
    if wish is None or _text(item.get("category")) not in {"", "marketing_messages"}:
        return  # `signup`, and whatever comes next
    who = (item.get("wa_id"), item.get("user_id"))
    known = _matching(contacts, who)
    if not person(*who) and len(contacts) == 1:
        known = contacts
    if someone := person(*who, *_ids(known)):
        yield Preference(someone, wish, moment(item.get("timestamp")), sender)


def _moved(before: object, after: object) -> Iterator[Moved]:
    if person(before) and person(after):
        yield Moved(person(before), person(after))


def _template(kind: str, value: Mapping[str, Any]) -> Iterator[TemplateNews]:
    match kind:
        case "message_template_status_update":
            event = _text(value.get("event")).upper()
        case "message_template_quality_update":
            event = f"quality:{_text(value.get('new_quality_score')) or 'UNKNOWN'}"
        case "template_category_update":
            event = f"category:{_text(value.get('new_category')) or 'UNKNOWN'}"
        case _:
            return
    reason = _text(value.get("reason"))
    other = _text(_get(value.get("other_info"), "title"))
    name = _text(value.get("message_template_name"))
    number = _text(value.get("message_template_id"))
    if event and (name or number):
        # Meta writes en_US here and en-US there.
        language = _text(value.get("message_template_language")).replace("-", "_")
        told = ": ".join(word for word in (reason, other) if word and word != "NONE")
        yield TemplateNews(number, name, language, event, told)


def _account(kind: str, value: Mapping[str, Any]) -> AccountNews:
    event = _text(value.get("event") or value.get("decision")).upper()
    ban = _text(_get(value.get("ban_info"), "waba_ban_state"))
    details = [ban, _text(_get(value.get("violation_info"), "violation_type"))]
    details += [
        _text(item.get("restriction_type")) for item in _dicts(value.get("restriction_info"))
    ]
    details.append(_text(_get(value.get("alert_info"), "alert_description")))
    tier = value.get("max_daily_conversations_per_business", value.get("current_limit"))
    return AccountNews(
        kind=kind,
        event=event,
        detail=", ".join(word for word in details if word),
        halts=kind == "account_update" and event in _HALTING_EVENTS and ban != "REINSTATE",
        tier=_tier(tier),
        phone=person(_text(value.get("display_phone_number"))).phone,
        quality=_QUALITIES.get(event),
        throughput="HIGH" if event == "THROUGHPUT_UPGRADE" else None,
    )


def _tier(value: object) -> str | None:
    """`TIER_2K`; Meta types the field integer and lists strings, -1 is unlimited."""
    text = _text(value)
    if text == "-1":
        return "TIER_UNLIMITED"
    if text.isascii() and text.isdigit() and len(text) < 10:
        return f"TIER_{int(text) // 1000}K" if int(text) >= 1000 else f"TIER_{int(text)}"
    return text if text.startswith("TIER_") else None


def _words(kind: str, part: object) -> tuple[str, str]:
    """What a person wrote or tapped, and the payload behind the tap."""
    match kind:
        case "text":
            return _text(_get(part, "body")), ""
        case "button":
            return _text(_get(part, "text")), _text(_get(part, "payload"))
        case "interactive":
            for reply in ("button_reply", "list_reply"):
                if isinstance(chosen := _get(part, reply), dict):
                    return _text(chosen.get("title")), _text(chosen.get("id"))
            flow = _get(part, "nfm_reply")
            return _text(_get(flow, "body")), _text(_get(flow, "response_json"))
        case "reaction":
            return _text(_get(part, "emoji")), _text(_get(part, "message_id"))
        case _:
            return _text(_get(part, "caption")), ""


def _matching(contacts: list[dict[str, Any]], who: tuple[object, ...]) -> list[dict[str, Any]]:
    """The contacts that are this person: `contacts` may be absent, partial or of somebody else."""
    ids = {name for name in who if isinstance(name, str) and name}
    return [contact for contact in contacts if ids & set(_ids([contact]))]


def _ids(contacts: list[dict[str, Any]]) -> list[str]:
    keys = ("wa_id", "user_id", "parent_user_id")
    return [name for contact in contacts for key in keys if (name := _text(contact.get(key)))]


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _get(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _text(value: object) -> str:
    """Ids come as integers in one place and as text in another."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
