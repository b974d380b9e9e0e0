"""Webhooks of the Cloud API, with every trap of PROVIDERS part 3."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.delivery import Deferred, Rejected
from wabcast.providers.cloud_webhooks import parse, sign, signed
from wabcast.receipts import (
    AccountNews,
    Inbound,
    Moved,
    News,
    Person,
    Preference,
    Receipt,
    Ref,
    Status,
    TemplateNews,
    Wish,
)

WHEN = datetime(2026, 11, 5, 10, tzinfo=UTC)
STAMP = str(int(WHEN.timestamp()))
ANA = Person("+16505551234", None)


def hook(field: str = "messages", **value: Any) -> dict[str, Any]:
    value = {"metadata": {"phone_number_id": "106"}, **value}
    return {"entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]}


def status(word: str = "delivered", **more: Any) -> dict[str, Any]:
    found = {"id": "wamid.1", "status": word, "timestamp": STAMP, "recipient_id": "16505551234"}
    return {**found, **more}


def only(payload: dict[str, Any]) -> News:
    (news,) = parse(payload)
    return news


def test_a_status_tells_all_it_knows() -> None:
    pricing = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "marketing"}
    ref = "wabcast:0192-ab:17:2"
    contacts = [{"wa_id": "16505551234", "user_id": "US.134"}, {"wa_id": "4915", "user_id": "DE.1"}]
    item = status(biz_opaque_callback_data=ref, pricing=pricing)
    assert only(hook(statuses=[item], contacts=contacts)) == Receipt(
        "wamid.1",
        Status.DELIVERED,
        WHEN,
        Ref("0192-ab", 17, 2),
        Person("+16505551234", "US.134"),
        None,
        "marketing",
        "regular",
        "106",
    )


def test_a_failure_comes_without_contacts_and_with_its_meaning() -> None:
    news = only(hook(statuses=[status("failed", errors=[{"code": 131026, "title": "No"}])]))
    assert isinstance(news, Receipt)
    assert isinstance(news.error, Rejected)
    assert news.error.code == "131026"
    news = only(hook(statuses=[status("failed", errors=None)]))
    assert isinstance(news, Receipt)
    assert isinstance(news.error, Rejected)
    news = only(hook(statuses=[status("failed", errors=[None, {"code": 131016}])]))
    assert isinstance(news, Receipt)
    assert isinstance(news.error, Deferred)


@pytest.mark.parametrize(
    ("stamp", "wanted"),
    [
        (STAMP, WHEN),
        (int(STAMP), WHEN),
        (f"{STAMP}000", WHEN),
        ("soon", None),
        (None, None),
        (True, None),
        ("9" * 40, None),
        ("nan", None),
        (-5, None),
    ],
)
def test_a_timestamp_may_be_anything(stamp: object, wanted: datetime | None) -> None:
    news = only(hook(statuses=[status(timestamp=stamp)]))
    assert isinstance(news, Receipt)
    assert news.at == wanted


def test_one_bad_item_loses_none_of_the_others() -> None:
    bad: list[Any] = [None, 7, "x", {}, {"id": 5}, status("deleted"), status("sent", id="")]
    good = [status("sent"), status("read", recipient_id=None), status("played", pricing="free")]
    payload = hook(statuses=[*bad, good[0], *bad, *good[1:]], messages=[None, {"id": "m"}])
    payload["entry"] = [None, {"changes": None}, {"changes": [None, {"value": []}]}] + payload[
        "entry"
    ] * 2
    news = parse(payload)
    assert [item.status for item in news if isinstance(item, Receipt)] == [
        "sent",
        "read",
        "played",
    ] * 2
    assert sum(isinstance(item, Inbound) for item in news) == 2


def message(kind: str, part: object, **more: Any) -> dict[str, Any]:
    base = {"from": "16505551234", "id": "wamid.in", "timestamp": STAMP, "type": kind, kind: part}
    return {**base, **more}


@pytest.mark.parametrize(
    ("kind", "part", "text", "payload"),
    [
        ("text", {"body": "STOP"}, "STOP", ""),
        ("button", {"payload": "Unsubscribe", "text": "Stop it"}, "Stop it", "Unsubscribe"),
        (
            "interactive",
            {"type": "button_reply", "button_reply": {"id": "yes", "title": "Yes"}},
            "Yes",
            "yes",
        ),
        ("interactive", {"list_reply": {"id": "3", "title": "Three"}}, "Three", "3"),
        ("interactive", {"nfm_reply": {"response_json": "{}", "body": "Sent"}}, "Sent", "{}"),
        ("reaction", {"message_id": "wamid.1", "emoji": "👍"}, "👍", "wamid.1"),
        ("image", {"id": "5", "caption": "look"}, "look", ""),
        ("location", {"latitude": 1}, "", ""),
        ("text", None, "", ""),
    ],
)
def test_what_a_person_says(kind: str, part: object, text: str, payload: str) -> None:
    item = message(kind, part, context={"id": "wamid.1", "from": "1555"})
    news = only(
        hook(messages=[item], contacts=[{"wa_id": "16505551234", "profile": {"name": "Ana"}}])
    )
    assert news == Inbound(
        "wamid.in", ANA, WHEN, kind, text, payload, "wamid.1", name="Ana", sender="106"
    )


@pytest.mark.parametrize("context", [None, {}, {"forwarded": True}, "wamid.1"])
def test_a_typed_reply_names_no_message(context: object) -> None:
    news = only(hook(messages=[message("text", {"body": "hi"}, context=context)]))
    assert isinstance(news, Inbound)
    assert news.context_id is None


def test_a_person_may_hide_the_number() -> None:
    item = message("text", {"body": "STOP"}, from_user_id="US.134")
    del item["from"]
    news = only(
        hook(messages=[item], contacts=[{"user_id": "US.134", "parent_user_id": "US.ENT.9"}])
    )
    assert isinstance(news, Inbound)
    assert news.person == Person(None, "US.134")
    item = message("text", {"body": "STOP"}, **{"from": "US.134"})
    news = only(hook(messages=[item]))
    assert isinstance(news, Inbound)
    assert news.person == Person(None, "US.134")


def test_a_person_who_moves_is_told() -> None:
    system = {"type": "user_changed_number", "wa_id": "16505559999"}
    assert only(hook(messages=[message("system", system)])) == Moved(ANA, Person("+16505559999"))
    ids = {"previous": "US.1", "current": "US.2"}
    assert only(hook("user_id_update", user_id=ids)) == Moved(
        Person(None, "US.1"), Person(None, "US.2")
    )
    assert parse(hook(messages=[message("system", None)])) == []


def test_a_preference_is_of_the_one_it_names() -> None:
    item = {"wa_id": "16505551234", "category": "marketing_messages", "value": "stop"}
    item = {**item, "timestamp": int(STAMP)}  # type: ignore[dict-item]  # an int, as Meta sends
    payload = hook("user_preferences", user_preferences=[item], contacts=[{"wa_id": "4915112345"}])
    assert only(payload) == Preference(ANA, Wish.STOP, WHEN, "106")
    hidden = {"user_id": "US.1", "value": "resume"}
    assert only(hook("user_preferences", user_preferences=[hidden])) == Preference(
        Person(None, "US.1"), Wish.RESUME, None, "106"
    )
    values: tuple[Any, ...] = ("signup", None, [], {})
    for value in values:
        nothing: dict[str, Any] = {**item, "value": value}
        assert parse(hook("user_preferences", user_preferences=[nothing])) == []


def test_news_of_templates() -> None:
    about = {
        "message_template_id": 1689556908129832,
        "message_template_name": "offer",
        "message_template_language": "en-US",
    }
    paused = {**about, "event": "PAUSED", "reason": None, "other_info": {"title": "FIRST_PAUSE"}}
    assert only(hook("message_template_status_update", **paused)) == TemplateNews(
        "1689556908129832", "offer", "en_US", "PAUSED", "FIRST_PAUSE"
    )
    quality = {**about, "previous_quality_score": "GREEN", "new_quality_score": "RED"}
    news = only(hook("message_template_quality_update", **quality))
    assert isinstance(news, TemplateNews)
    assert news.event == "quality:RED"
    news = only(hook("template_category_update", **about, new_category="MARKETING"))
    assert isinstance(news, TemplateNews)
    assert news.event == "category:MARKETING"
    assert parse(hook("message_template_components_update", **about)) == []


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        (
            "phone_number_quality_update",
            {
                "display_phone_number": "15550783881",
                "event": "ONBOARDING",
                "max_daily_conversations_per_business": "TIER_2K",
            },
            {"event": "ONBOARDING", "tier": "TIER_2K", "phone": "+15550783881"},
        ),
        ("phone_number_quality_update", {"event": "FLAGGED"}, {"quality": "RED"}),
        ("phone_number_quality_update", {"event": "UNFLAGGED"}, {"quality": "YELLOW"}),
        ("phone_number_quality_update", {"event": "ONBOARDING"}, {"quality": None}),
        (
            "phone_number_quality_update",
            {"event": "THROUGHPUT_UPGRADE"},
            {"quality": None, "throughput": "HIGH"},
        ),
        (
            "business_capability_update",
            {"max_daily_conversations_per_business": 2000},
            {"tier": "TIER_2K"},
        ),
        (
            "business_capability_update",
            {"max_daily_conversations_per_business": -1},
            {"tier": "TIER_UNLIMITED"},
        ),
        (
            "account_update",
            {
                "event": "ACCOUNT_RESTRICTION",
                "restriction_info": [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING"}],
            },
            {"halts": True, "detail": "RESTRICTED_BIZ_INITIATED_MESSAGING"},
        ),
        (
            "account_update",
            {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}},
            {"halts": False, "detail": "REINSTATE"},
        ),
    ],
)
def test_news_of_the_account(field: str, value: dict[str, Any], wanted: dict[str, Any]) -> None:
    news = only(hook(field, **value))
    assert isinstance(news, AccountNews)
    assert {key: getattr(news, key) for key in wanted} == wanted


def test_a_signature_is_of_the_raw_bytes() -> None:
    body = rb'{"text":"\u00e4"}'
    assert signed("secret", sign("secret", body), body)
    assert not signed("secret", sign("secret", body), '{"text":"ä"}'.encode())
    for wrong in ("", "sha256=", "sha256=é", sign("other", body)):
        assert not signed("secret", wrong, body)


KEYS = ["entry", "changes", "value", "field", "statuses", "messages", "contacts", "id", "status"]
KEYS += ["from", "type", "text", "errors", "code", "user_preferences", "timestamp", "wa_id"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["failed", "messages", "1", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(json_values, json_values)
def test_any_body_is_survived(value: object, payload: object) -> None:
    parse(payload)
    fields = ("messages", "account_update", "user_id_update", "message_template_status_update")
    for field in fields:
        good = {"field": "messages", "value": {"statuses": [status()]}}
        news = parse({"entry": [{"changes": [{"field": field, "value": value}, good]}]})
        assert isinstance(news[-1], Receipt)
