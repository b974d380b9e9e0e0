"""Every code of PROVIDERS 2.2, on both of its ways, and the answers that explain nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.providers.cloud_codes import (
    CODES,
    TRANSIENT,
    advice,
    verdict,
    verdict_from_receipt,
)

# As PROVIDERS 2.2 classes them; written out again, so that a slip in the table shows.
THROTTLE = {4, 80007, 130429, 613, 131057}
PAIR = {131056}
TRANSIENT_FAULTS = {1, 2, 131000, 131016, 133004, 135000}
RECIPIENT = {131049, 130472, 131026, 131047, 131021, 131062, 137000}
OPT_OUT = {131050, 130403}
MESSAGE = {100, 131008, 131009, 132000, 132005, 132008, 132012, 132018, 131051, 131052}
MESSAGE |= {131053, 131014, 131030, 130497}
CAMPAIGN = {132001, 132007, 132015, 132016, 132068, 132069, 131063, 131055, 134100, 134101, 134102}
ACCOUNT = {0, 190, 104, 200, 299, 3, 10, 131005, 33, 368, 131031, 131037, 131042, 131044, 131045}
ACCOUNT |= {133010, 133006, 133000, 133005, 133008, 133009, 133015, 134011, 131048, 131064, 133016}

CLASSES = [
    (THROTTLE, Deferred, Scope.ACCOUNT),
    (PAIR, Deferred, Scope.RECIPIENT),
    (TRANSIENT_FAULTS, Deferred, Scope.MESSAGE),
    (RECIPIENT | OPT_OUT, Rejected, Scope.RECIPIENT),
    (MESSAGE, Rejected, Scope.MESSAGE),
    (CAMPAIGN, Halted, Scope.CAMPAIGN),
    (ACCOUNT, Halted, Scope.ACCOUNT),
]
EVERY = [(code, kind, scope) for codes, kind, scope in CLASSES for code in sorted(codes)]


def error(code: object, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"(#{code}) Something", **more}}


@pytest.mark.parametrize(("code", "kind", "scope"), EVERY)
@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_the_code_decides_not_the_status(
    code: int, kind: type[Verdict], scope: Scope, status: int
) -> None:
    found = verdict(status, error(code), {})
    assert isinstance(found, kind)
    assert not isinstance(found, Accepted | Lost)
    assert (found.code, found.scope) == (str(code), scope)
    later = verdict_from_receipt([{"code": code, "title": "Something"}])
    assert (type(later), later.scope) == (kind, scope)


def test_the_table_holds_no_code_that_is_not_tested() -> None:
    assert set(CODES) == {code for code, _, _ in EVERY} - {200, 299}


@pytest.mark.parametrize("code", sorted(OPT_OUT | RECIPIENT))
def test_only_who_stopped_is_opted_out(code: int) -> None:
    found = verdict(400, error(code), {})
    assert isinstance(found, Rejected)
    assert found.opt_out is (code in OPT_OUT)


@pytest.mark.parametrize(("code", "wanted"), [(132000, 1), (100, 3), (132012, 3), (131008, 20)])
def test_a_fault_of_the_template_halts_early(code: int, wanted: int) -> None:
    found = verdict(400, error(code), {})
    assert isinstance(found, Rejected)
    assert found.halt_after == wanted


@pytest.mark.parametrize("code", [4, 131057])
def test_some_throttles_last_a_minute(code: int) -> None:
    assert verdict(400, error(code), {}) == Deferred(
        str(code), f"{CODES[code].reason} (Something)", timedelta(minutes=1), Scope.ACCOUNT
    )


def test_the_wait_that_was_asked_for_is_kept() -> None:
    usage = (
        '{"1": [{"type": "whatsapp", "estimated_time_to_regain_access": 5}], "2": [null], "3": 4}'
    )
    found = verdict(400, error(80007), {"x-business-use-case-usage": usage})
    assert isinstance(found, Deferred)
    assert found.after == timedelta(minutes=5)
    found = verdict(429, None, {"retry-after": "7"})
    assert found == Deferred("429", "too many calls", timedelta(seconds=7), Scope.ACCOUNT)
    for nonsense in ("Wed, 21 Oct 2026 07:28:00 GMT", "nan", "-3", "1e400", ""):
        found = verdict(429, None, {"retry-after": nonsense})
        assert isinstance(found, Deferred)
        assert found.after is None


@pytest.mark.parametrize("payload", [None, {}, error(999_999), error(131000), error(100)])
def test_429_is_always_a_throttle(payload: object) -> None:
    found = verdict(429, payload, {})
    assert isinstance(found, Deferred)
    assert found.scope is Scope.ACCOUNT


def test_a_wrong_number_id_is_the_accounts_fault() -> None:
    found = verdict(400, error(100, message="Unsupported post request. Object with ID '1'"), {})
    assert isinstance(found, Halted)
    assert found.scope is Scope.ACCOUNT


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ("Downloading media from weblink failed with http code 429", Deferred),
        ("Downloading media from weblink failed with http code 503", Deferred),
        ("Downloading media from weblink failed with http code 404", Rejected),
        ("Unsupported media type", Rejected),
    ],
)
@pytest.mark.parametrize("code", [131053, 131014])
def test_media_that_may_be_fetched_later_is_tried_again(
    code: int, details: str, kind: type[Verdict]
) -> None:
    errors = {"code": code, "error_data": {"details": details}}
    assert isinstance(verdict(400, {"error": errors}, {}), kind)
    assert isinstance(verdict_from_receipt([errors]), kind)


@pytest.mark.parametrize(
    ("status", "payload", "kind"),
    [
        (500, error(999_999), Lost),
        (503, error(999_999, is_transient=True), Deferred),
        (400, error(999_999, is_transient=True), Deferred),
        (400, error(999_999), Rejected),
        (500, None, Lost),
        (500, {"error": "Internal"}, Lost),
        (502, [], Lost),
        (400, None, Rejected),
        (408, None, Lost),
        (401, None, Halted),
        (404, None, Halted),
        (302, None, Halted),
        (200, error(131026), Lost),
        (200, {"messages": [None]}, Lost),
        (200, {"messages": [{"id": ""}]}, Lost),
        (200, {"messages": [{"id": 5}]}, Lost),
        (201, {"contacts": [None], "messages": [{"id": "wamid.1"}]}, Accepted),
    ],
)
def test_what_explains_itself_badly(status: int, payload: object, kind: type[Verdict]) -> None:
    assert isinstance(verdict(status, payload, {}), kind)


def test_held_is_taken() -> None:
    held = {"messages": [{"id": "wamid.1", "message_status": "held_for_quality_assessment"}]}
    assert verdict(200, held, {}) == Accepted("wamid.1", held=True)
    strange = {"messages": [{"id": "wamid.1", "message_status": "paused"}]}
    assert verdict(200, strange, {}) == Accepted("wamid.1")


def test_a_person_reads_words_and_what_to_do() -> None:
    for code, meaning in CODES.items():
        assert meaning.reason
        assert str(code) not in meaning.reason
        if isinstance(verdict(400, error(code), {}), Halted):
            assert advice(str(code)), code
    assert advice("connect") == advice("١") == ""
    assert advice("250")
    assert {"130429", "131056", "131016", "connect"} <= TRANSIENT
    assert not {"131026", "190"} & TRANSIENT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "code", "messages", "id", "error_data", "details", "message"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.integers(200, 599), json_values, st.text(max_size=20))
def test_any_answer_has_a_verdict(status: int, payload: object, header: str) -> None:
    headers = {"retry-after": header, "x-business-use-case-usage": header}
    found = verdict(status, payload, headers)
    if status >= 500 and isinstance(found, Deferred):
        assert isinstance(payload, dict)
        assert "error" in payload
    if isinstance(found, Accepted):
        assert status < 300
    verdict_from_receipt(payload)
