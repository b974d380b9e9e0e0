"""The REST door, asked as a web back end asks it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import StillClock
from doors import HELLO, Door
from hypothesis import given
from hypothesis import strategies as st
from make import Make
from pysqlite3.dbapi2 import Connection
from workbooks import FAR_CELL

from wabcast import locks
from wabcast.campaign import LIFECYCLE, Campaign, CampaignStatus
from wabcast.clock import parse, text
from wabcast.errors import NotFound
from wabcast.server import moves
from wabcast.server.desk import cursor, position
from wabcast.server.problems import Problem
from wabcast.store import campaigns, contacts, events, segments, tokens, whereabouts
from wabcast.store.database import immediate


@pytest.fixture
async def door(db: Connection, db_path: Path, clock: StillClock) -> AsyncIterator[Door]:
    async with Door(db, db_path, clock) as door:
        yield door


NOBODY = "018f0000-0000-7000-8000-000000000000"


# -- the seed's four


async def test_start_is_due_at_once_and_says_it_in_the_seeds_words(
    door: Door, make: Make, clock: StillClock
) -> None:
    campaign = make.campaign(people=2)
    answer = await door.post(f"/campaigns/{campaign.id}/start")
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "message": "Campaign started successfully",
        "data": {"id": campaign.id, "status": "scheduled", "scheduled_at": text(clock.now())},
    }


async def test_pause_and_resume(door: Door, make: Make, clock: StillClock) -> None:
    campaign = make.campaign(people=2, status="running", run_id="r")
    paused = await door.post(f"/campaigns/{campaign.id}/pause")
    assert (paused.json()["message"], paused.json()["data"]["status"]) == (
        "Campaign paused successfully",
        "paused",
    )
    assert make.look(campaign).resume_at is None
    clock.advance(60)
    resumed = await door.post(f"/campaigns/{campaign.id}/resume")
    assert resumed.json()["message"] == "Campaign resumed successfully"
    assert resumed.json()["data"]["scheduled_at"] == text(clock.now())
    assert make.look(campaign).resume_at == text(clock.now())
    again = await door.post(f"/campaigns/{campaign.id}/pause")  # before a runner took it
    assert again.status_code == 200
    assert make.look(campaign).resume_at is None


async def test_duplicate(door: Door, make: Make) -> None:
    campaign = make.campaign(people=2)
    answer = await door.post(f"/campaigns/{campaign.id}/duplicate")
    told = answer.json()["data"]
    assert (told["name"], told["status"], told["total_recipients"]) == ("spring (Copy)", "draft", 2)
    named = await door.post(f"/campaigns/{campaign.id}/duplicate", {"name": "summer"})
    assert named.json()["data"]["name"] == "summer"


SEED = {
    "start": "Cannot start campaign with status: {}",
    "pause": "Cannot pause campaign with status: {}",
    "resume": "Only paused campaigns can be resumed",
}


@pytest.mark.parametrize("verb", SEED)
@pytest.mark.parametrize("status", CampaignStatus)
async def test_what_the_lifecycle_forbids_is_400_in_the_seeds_words(
    door: Door, make: Make, status: CampaignStatus, verb: str
) -> None:
    campaign = make.campaign(people=1, status=status.value)
    answer = await door.post(f"/campaigns/{campaign.id}/{verb}")
    if status in LIFECYCLE[verb][0]:
        assert answer.status_code == 200, answer.text
        return
    told = answer.json()
    assert answer.status_code == 400
    expected = SEED[verb].format(status)
    if (verb, status) == ("start", CampaignStatus.RUNNING):
        expected = "Campaign is already running"
    assert (told["success"], told["message"]) == (False, expected)
    assert told["data"] == {
        "type": "urn:wabcast:problem:refused",
        "title": "Bad Request",
        "status": 400,
        "detail": expected,
    }
    assert make.look(campaign).status is status


async def test_an_account_that_is_not_connected(door: Door, make: Make) -> None:
    make.account("cut", "cloud", settings={"phone_number_id": "1"}, secrets={"token": "env:GONE"})
    campaign = make.campaign(people=1, account="shop")
    with immediate(door.db):
        door.db.execute(
            "update campaigns set account_id = (select id from accounts where name = 'cut')"
        )
    answer = await door.post(f"/campaigns/{campaign.id}/start")
    assert answer.status_code == 400
    assert answer.json()["message"] == "WhatsApp account is not connected"
    assert "GONE" not in answer.text  # where the secret is kept is nobody's business
    assert make.look(campaign).status is CampaignStatus.DRAFT


@pytest.mark.parametrize("verb", ["start", "resume"])
async def test_an_account_that_cannot_be_reached(
    door: Door, make: Make, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("FAR_TOKEN", "a-token-of-no-one")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        settings = {
            "base_url": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "phone_number_id": "1",
        }
        make.account("far", "cloud", settings=settings, secrets={"token": "env:FAR_TOKEN"})
        status = "draft" if verb == "start" else "paused"
        campaign = make.campaign(people=1, account="far", status=status)
        answer = await door.post(f"/campaigns/{campaign.id}/{verb}")
    assert answer.status_code == 400
    assert answer.json()["message"] == "WhatsApp account is not connected"
    now = make.look(campaign)
    assert (now.status, now.scheduled_at, now.resume_at) == (status, None, None)


# -- campaigns


async def test_in_a_copy_of_the_file_nothing_is_set_in_motion(
    door: Door, make: Make, db: Connection
) -> None:
    drafted, paused = make.campaign("a"), make.campaign("b", status="paused")
    whereabouts.forget(db)  # as a backup that was put here
    for campaign, verb in ((drafted, "start"), (paused, "resume"), (drafted, "schedule")):
        body = {"at": "2026-11-06T10:00:00Z", "timezone": "UTC"} if verb == "schedule" else None
        for _ in range(2):
            answer = await door.post(f"/campaigns/{campaign.id}/{verb}", body)
            assert (answer.status_code // 100, "was copied" in answer.text) == (4, True)
        assert make.look(campaign) == campaign


async def test_a_campaign_is_made_looked_at_changed_and_forgotten(door: Door, make: Make) -> None:
    make.account()
    for _ in range(3):
        make.contact()
    body = {
        "name": "spring",
        "account": "shop",
        "content": {"text": "Hello {{ firstName | default('you') }}"},
        "audience": {"kind": "all"},
        "throttle": {"messagesPerMinute": 40, "batchSize": 7, "delayBetweenBatches": 100},
    }
    made = await door.post("/campaigns", body)
    assert made.status_code == 201, made.text
    told = made.json()["data"]
    assert told["total_recipients"] == 3
    assert told["throttle"]["messagesPerMinute"] == 40
    address = f"/campaigns/{told['id']}"
    assert (await door.get(address)).json()["data"] == told
    preview = (await door.get(f"{address}/preview?limit=1")).json()["data"]
    assert [one["text"] for one in preview] == ["Hello you"]
    changed = await door.send("PATCH", address, {"rate": "5/s", "name": "summer"})
    assert changed.json()["data"]["name"] == "summer"
    assert changed.json()["data"]["throttle"]["messagesPerMinute"] == 300
    people = (await door.get(f"{address}/recipients?limit=2")).json()["data"]
    rest = (await door.get(f"{address}/recipients?limit=2&cursor={people['next']}")).json()["data"]
    assert len({one["phone"] for one in people["items"] + rest["items"]}) == 3
    assert rest["next"] is None
    assert (await door.get(f"{address}/stats")).json()["data"]["total_recipients"] == 3
    assert (await door.send("DELETE", address)).status_code == 200
    assert (await door.get(address)).status_code == 404


async def test_the_list_goes_on_by_its_cursor(door: Door, make: Make) -> None:
    names = [make.campaign(f"c{number}").name for number in range(5)]
    seen: list[str] = []
    at = ""
    while True:
        page = (await door.get(f"/campaigns?limit=2{at}")).json()["data"]
        seen += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        at = f"&cursor={page['next']}"
    assert seen == names[::-1]
    assert (await door.get("/campaigns?status=paused")).json()["data"]["items"] == []
    assert (await door.get("/campaigns?cursor=nonsense")).status_code == 400


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"text": "{% for x in range(9) %}x{% endfor %}"}, "for"),
        ({"message": {"type": "image", "image": {"file": "/etc/passwd"}}}, "file"),
        ({"template": {"name": "t", "params": {"header.image": "/etc/passwd"}}}, "files"),
        ({"message": {"type": "smoke"}}, "type"),
        ({"template": {"name": "t"}}, "template"),
    ],
)
async def test_content_from_afar_may_not_loop_nor_read_our_files(
    door: Door, make: Make, content: dict[str, Any], word: str
) -> None:
    make.account()
    body = {"name": "x", "account": "shop", "content": content, "audience": {"kind": "all"}}
    answer = await door.post("/campaigns", body)
    assert answer.status_code in (400, 404), answer.text
    assert word in answer.text
    assert "/etc/passwd" not in answer.text


async def test_a_campaign_of_the_shell_loses_its_trust_when_it_is_reworded(
    door: Door, make: Make
) -> None:
    loop = {"type": "text", "text": {"body": "{% for x in [1] %}a{% endfor %}"}}
    campaign = make.campaign(content=loop)
    address = f"/campaigns/{campaign.id}"
    assert (await door.send("PATCH", address, {"rate": "5/s"})).status_code == 200
    assert (await door.send("PATCH", address, {"variables": {"a": "b"}})).status_code == 400
    assert make.look(campaign).trusted
    assert (await door.send("PATCH", address, {"content": {"text": "a"}})).status_code == 200
    assert not make.look(campaign).trusted
    copy = (await door.post(f"{address}/duplicate")).json()["data"]
    assert not campaigns.get(door.db, copy["id"]).trusted


async def test_only_a_whole_id_names_a_campaign(door: Door, make: Make) -> None:
    campaign = make.campaign()
    for name in (NOBODY, campaign.name, campaign.id[:8], "%00", "..%2f"):
        for ask in (door.get(f"/campaigns/{name}"), door.post(f"/campaigns/{name}/start")):
            answer = await ask
            assert answer.status_code == 404
            assert "spring" not in answer.text


async def test_scheduled_by_time_and_by_rule_and_back(
    door: Door, make: Make, clock: StillClock
) -> None:
    campaign = make.campaign(people=1)
    address = f"/campaigns/{campaign.id}"
    at = text(clock.now() + timedelta(hours=2))
    told = (await door.post(f"{address}/schedule", {"at": at})).json()["data"]
    assert (told["status"], told["scheduled_at"]) == ("scheduled", at)
    rule = {"at": at, "repeat": "cron:0 9 * * 1", "timezone": "Europe/Berlin"}
    told = (await door.post(f"{address}/schedule", rule)).json()["data"]
    assert parse(told["scheduled_at"]).isoweekday() == 1
    refused = await door.post(f"{address}/start")
    assert (refused.status_code, make.look(campaign).repeat is not None) == (400, True)
    assert (await door.post(f"{address}/unschedule")).json()["data"]["status"] == "draft"
    late = await door.post(f"{address}/schedule", {"at": "2020-01-01T00:00:00Z"})
    assert late.status_code == 400
    wrong = await door.post(f"{address}/schedule", {"at": at, "timezone": "Mars/Olympus"})
    assert wrong.status_code == 400


async def test_retry_and_settle_of_named_people_and_codes(door: Door, make: Make) -> None:
    campaign = make.campaign(status="completed")
    phones = [f"+491510000000{number}" for number in range(3)]
    for phone, state in zip(phones, ("failed", "failed", "in_doubt"), strict=True):
        make.campaign_message(state, campaign=campaign, contact=make.contact(phone))
    address = f"/campaigns/{campaign.id}"

    async def changed(verb: str, **asked: object) -> int:
        answer = await door.post(f"{address}/{verb}", asked)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["data"]["changed"])

    assert await changed("retry") == 0  # it was no passing fault
    assert await changed("retry", codes=["131026"]) == 0
    assert await changed("retry", phones=["+49 151 00000000"]) == 1
    assert await changed("retry", codes=["test"]) == 1
    assert await changed("settle", **{"as": "sent", "phones": phones[:2]}) == 0
    assert await changed("settle", **{"as": "sent", "phones": phones, "codes": ["test"]}) == 1
    for unknown, code in (("+4915199999999", 404), ("many", 400)):
        answer = await door.post(f"{address}/retry", {"phones": [unknown]})
        assert answer.status_code == code, answer.text


async def test_cancel_retry_and_settle(door: Door, make: Make) -> None:
    campaign = make.campaign(status="completed")
    make.campaign_message("failed", campaign=campaign)
    make.campaign_message("in_doubt", campaign=campaign)
    address = f"/campaigns/{campaign.id}"
    told = (await door.post(f"{address}/retry", {"class": "all"})).json()["data"]
    assert (told["changed"], told["campaign"]["status"]) == (1, "paused")
    told = (await door.post(f"{address}/settle", {"as": "sent"})).json()["data"]
    assert (told["changed"], told["campaign"]["in_doubt"]) == (1, 0)
    assert (await door.post(f"{address}/cancel")).json()["data"]["status"] == "cancelled"
    assert (await door.post(f"{address}/retry", {"class": "all"})).status_code == 400


# -- people, segments, templates, accounts


async def test_people_come_in_by_file_and_one_bad_row_stops_nobody(door: Door) -> None:
    file = (
        "Mobile,First Name,City\n+4915112345601,Ann,Berlin\nnonsense,Bob,Rome\n015112345602,Eve,\n"
    )
    answer = await door.http.post(
        "/contacts/import",
        files={"file": ("people.csv", file)},
        data={"region": "DE", "tag": ["new"], "columns": json.dumps({"phone": "Mobile"})},
    )
    told = answer.json()["data"]
    assert (told["read"], told["inserted"], told["rejected"]) == (3, 2, 1)
    assert told["rejects"][0]["line"] == 3
    page = (await door.get("/contacts?tag=new&limit=1")).json()["data"]
    assert page["items"][0]["attributes"] == {"City": "Berlin"}
    rest = (await door.get(f"/contacts?tag=new&cursor={page['next']}")).json()["data"]
    assert [one["phone"] for one in rest["items"]] == ["+4915112345602"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no limit")
@pytest.mark.parametrize(
    ("file", "told"),
    [
        (FAR_CELL, "the upload takes more than 1,536 MB of memory"),
        (b"a" + b"," * 5000 + b"b\n", "the table has 5,001 columns; at most 2,000 are read"),
        (b"PK\x03\x04", "is no spreadsheet that can be read"),
        (b"[" + b"[" * 100_000, "is a broken JSON array"),
    ],
    ids=["a cell at the end", "columns", "no zip", "deep"],
)
async def test_a_file_that_is_too_much_is_refused_and_the_next_comes_in(
    door: Door, file: bytes, told: str
) -> None:
    answer = await door.http.post("/contacts/import", files={"file": ("people", file)})
    assert answer.status_code == 400
    assert told in answer.json()["message"]
    good = {"file": ("people.csv", b"phone\n+4915112345601\n")}
    answer = await door.http.post("/contacts/import", files=good)
    assert answer.json()["data"]["inserted"] == 1


async def test_one_person(door: Door) -> None:
    body = {"phone": "0151 123 456 01", "region": "DE", "fields": {"first_name": "Ann", "x": "1"}}
    assert (await door.post("/contacts", body)).status_code == 201
    address = "/contacts/%2B4915112345601"
    told = (await door.get(address)).json()["data"]
    assert (told["first_name"], told["attributes"]) == ("Ann", {"x": "1"})
    changed = await door.send("PATCH", address, {"fields": {"first_name": "Eve", "x": ""}})
    assert changed.json()["data"]["attributes"] == {}
    assert (await door.get("/contacts/12")).status_code == 400
    assert (await door.get("/contacts/%2B4915112345699")).status_code == 404
    assert (await door.send("DELETE", address)).json()["data"]["removed"] == 1
    assert (await door.get(address)).status_code == 404


async def test_an_opt_out_holds_from_the_moment_it_is_answered(
    door: Door, make: Make, db: Connection
) -> None:
    make.contact("+4915112345601")
    body = {"phones": ["+4915112345601", "+4915112345699"], "reason": "a letter"}
    told = (await door.post("/contacts/opt-out", body)).json()["data"]
    assert told == {"changed": 1, "already": 0, "unknown": 1}
    assert contacts.get(db, "+4915112345601").opt_out_reason == "a letter"
    event = next(e for e in events.since(db, 0) if e["event"] == "contact:opted_out")
    assert event["actor"] == "token:admin"
    back = (await door.post("/contacts/opt-in", {"phones": ["+4915112345601"]})).json()["data"]
    assert back["changed"] == 1
    for verb in ("block", "unblock"):
        told = (await door.post(f"/contacts/{verb}", {"phones": ["+4915112345601"]})).json()
        assert told["data"]["changed"] == 1
    tags = {"phones": ["+4915112345601"], "tags": ["vip"]}
    for verb in ("tag", "untag"):
        assert (await door.post(f"/contacts/{verb}", tags)).json()["data"]["changed"] == 1


async def test_segments(door: Door, make: Make, db: Connection) -> None:
    make.contact(company="Acme")
    make.contact()
    body = {"name": "acme", "expression": "company = 'Acme'"}
    assert (await door.post("/segments", body)).json()["data"]["count"] == 1
    assert len((await door.get("/contacts?segment=acme")).json()["data"]["items"]) == 1
    wrong = await door.post("/segments", {"name": "x", "expression": "(select 1 from tokens)"})
    assert wrong.status_code == 400
    assert (await door.get("/segments")).json()["data"][0]["name"] == "acme"
    assert (await door.send("DELETE", "/segments/acme")).status_code == 200
    with pytest.raises(NotFound):
        segments.get(db, "acme")


async def test_templates_from_afar(door: Door) -> None:
    made = await door.post("/templates", {"name": "hi", "text": "Hello {{firstName}}"})
    assert made.status_code == 201
    assert (await door.get("/templates/hi")).json()["data"][0]["body"]["type"] == "text"
    loop = await door.post("/templates", {"name": "l", "text": "{% for x in 'a' %}{% endfor %}"})
    file = {"type": "image", "image": {"file": "/etc/passwd"}}
    read = await door.post("/templates", {"name": "f", "message": file})
    assert (loop.status_code, read.status_code) == (400, 400)
    assert (await door.send("DELETE", "/templates/hi")).status_code == 200
    assert (await door.get("/templates")).json()["data"] == []


async def test_accounts_tell_nothing_secret(door: Door, make: Make) -> None:
    make.account("cut", "cloud", settings={"phone_number_id": "77"}, secrets={"token": "env:THERE"})
    for address in ("/accounts", "/accounts/cut"):
        answer = await door.get(address)
        assert answer.status_code == 200
        assert "THERE" not in answer.text
        assert "77" not in answer.text


# -- failures


async def test_what_is_not_as_documented_is_422_with_the_fields(door: Door) -> None:
    answer = await door.post("/campaigns", {"name": "x", "colour": "red"})
    told = answer.json()
    assert answer.status_code == 422
    assert {error["field"] for error in told["data"]["errors"]} >= {"body.account", "body.colour"}
    for content in (b"{", b"\xff", b"[" * 100_000, b'{"name": "\\ud800"}', b"null"):
        answer = await door.http.post(
            "/campaigns", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["success"] is False


async def test_a_body_that_is_too_large_is_413(door: Door) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 100_000

    for body in (b" " * 2_000_000, chunks()):
        for headers in ({}, {"idempotency-key": "k"}):
            answer = await door.http.post(
                "/campaigns",
                content=body if isinstance(body, bytes) else chunks(),
                headers={"content-type": "application/json", **headers},
            )
            assert answer.status_code == 413, answer.text


async def test_an_address_that_is_not_there_and_a_method_that_is_not(door: Door) -> None:
    for ask, status in ((door.get("/nothing"), 404), (door.send("PUT", "/campaigns"), 405)):
        answer = await ask
        assert answer.status_code == status
        assert answer.json()["data"]["status"] == status


async def test_a_bug_is_told_to_the_log_alone(
    door: Door, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("the secret of /srv/wabcast.db")

    monkeypatch.setattr(campaigns, "page", broken)
    answer = await door.get("/campaigns")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "the secret of" in caplog.text


# -- once, and written down


async def test_one_key_is_carried_out_once(door: Door, make: Make) -> None:
    campaign = make.campaign(people=1)
    address, key = f"/campaigns/{campaign.id}/duplicate", {"idempotency-key": "a-1"}
    first = await door.post(address, headers=key)
    second = await door.post(address, headers=key)
    assert first.json() == second.json()
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.headers["idempotency-replayed"] == "true"
    assert len(campaigns.listed(door.db)) == 2
    other = await door.post(address, {"name": "other"}, headers=key)
    assert other.status_code == 422
    assert len(campaigns.listed(door.db)) == 2
    theirs = await door.post(address, headers=key, token=door.token("somebody else", "operator"))
    assert theirs.json()["data"]["name"] == "spring (Copy 2)"
    assert (await door.post(address, headers={"idempotency-key": "x" * 256})).status_code == 400


async def test_a_key_belongs_to_its_upload_whatever_the_boundary(door: Door) -> None:
    def upload(row: str, boundary: str, **fields: str) -> dict[str, Any]:
        parts = [("file", 'filename="a.csv"', f"phone\n{row}\n")]
        parts += [(name, "", value) for name, value in fields.items()]
        body = "".join(
            f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"; {more}\r\n\r\n'
            f"{value}\r\n"
            for name, more, value in parts
        )
        kind = f"multipart/form-data; boundary={boundary}"
        headers = {"content-type": kind, "idempotency-key": "u"}
        return {"content": f"{body}--{boundary}--\r\n", "headers": headers}

    async def ask(*said: Any, **fields: str) -> httpx.Response:
        return await door.http.post("/contacts/import", **upload(*said, **fields))

    first = await ask("+4915112345601", "aaa")
    again = await ask("+4915112345601", "bbb")
    assert first.json()["data"]["inserted"] == 1
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert (await ask("+4915112345602", "aaa")).status_code == 422
    assert (await ask("+4915112345601", "aaa", region="DE")).status_code == 422
    found = (await door.get("/contacts")).json()["data"]["items"]
    assert [one["phone"] for one in found] == ["+4915112345601"]


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=a"])
async def test_an_upload_that_is_none_is_refused_with_a_key_too(door: Door, kind: str) -> None:
    for body in (b"", b"nonsense", b"--a\r\nnonsense" * 100):
        headers = {"content-type": kind, "idempotency-key": "n"}
        answer = await door.http.post("/contacts/import", content=body, headers=headers)
        assert answer.status_code in (400, 422), answer.text


async def test_what_is_kept_of_keys_is_bounded(
    door: Door, make: Make, db: Connection, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MOST_REFUSED", 5)
    monkeypatch.setattr(tokens, "MOST_KEYS", 8)
    done, over = make.campaign("a", people=1), make.campaign("b", status="completed")

    async def ask(campaign: Campaign, verb: str, key: str) -> httpx.Response:
        clock.advance(1)
        headers = {"idempotency-key": key}
        return await door.post(f"/campaigns/{campaign.id}/{verb}", headers=headers)

    first = await ask(done, "duplicate", "kept")
    for nr in range(20):
        assert (await ask(over, "pause", f"r{nr}")).status_code == 400
    assert db.execute("select count(*) from idempotency_keys").fetchone()[0] == 6
    assert (await ask(over, "pause", "r19")).headers["idempotency-replayed"] == "true"
    for nr in range(2):
        assert (await ask(done, "duplicate", f"d{nr}")).status_code == 200
    assert (await ask(done, "duplicate", "one more")).status_code == 429
    assert (await ask(done, "duplicate", "kept")).json() == first.json()
    assert db.execute("select count(*) from idempotency_keys").fetchone()[0] == 8
    clock.advance(timedelta(hours=25))
    assert (await ask(done, "duplicate", "one more")).status_code == 200


async def test_no_answer_is_kept_by_others_or_guessed_at(door: Door) -> None:
    for path in ("/contacts", "/nothing", "/openapi.json", "/docs", "/contacts/12"):
        answer = await door.get(path)
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff", path
    unknown = await door.client("no token").get("/contacts")
    assert (unknown.status_code, unknown.headers["cache-control"]) == (401, "no-store")
    health = await door.http.get("http://here/healthz")
    assert health.headers["x-content-type-options"] == "nosniff"


async def test_a_refusal_is_kept_too_and_a_cut_off_one_stays_taken(
    door: Door, make: Make, clock: StillClock
) -> None:
    campaign = make.campaign(people=1, status="completed")
    address, key = f"/campaigns/{campaign.id}/pause", {"idempotency-key": "b"}
    assert (await door.post(address, headers=key)).status_code == 400
    with immediate(door.db):
        door.db.execute("update campaigns set status = 'running'")
        door.db.execute("update idempotency_keys set status = null")
    assert (await door.post(address, headers=key)).status_code == 409
    clock.advance(timedelta(hours=25))
    assert (await door.post(address, headers=key)).status_code == 200


async def test_an_answer_that_named_who_was_erased_is_gone_and_stays_given(door: Door) -> None:
    phone, key = "+4915112345611", {"idempotency-key": "person-+4915112345611"}
    said = {"phone": phone, "fields": {"first_name": "Zebediah"}}
    assert (await door.post("/contacts", said, headers=key)).status_code in (200, 201)
    assert (await door.send("DELETE", f"/contacts/{phone}")).status_code == 200
    for row in door.db.execute("select * from idempotency_keys").fetchall():
        assert not any("Zebediah" in str(value) or phone in str(value) for value in row)
    again = await door.post("/contacts", said, headers=key)
    assert again.status_code == 410
    assert "has been erased since" in again.json()["message"]
    assert (await door.get(f"/contacts/{phone}")).status_code == 404
    other = await door.post("/contacts", {"phone": phone}, headers=key)
    assert other.status_code == 422


async def test_whatever_is_done_says_who_did_it(door: Door, make: Make, db: Connection) -> None:
    campaign = make.campaign(people=1)
    web = door.token("web", "operator")
    await door.post(f"/campaigns/{campaign.id}/start", token=web)
    await door.post(f"/campaigns/{campaign.id}/pause", token=web)
    await door.post(f"/campaigns/{campaign.id}/pause", token=web)  # refused, so not done
    told = [e for e in events.since(db, 0, campaign_id=campaign.id) if e.get("actor")]
    assert {e["actor"] for e in told} == {"token:web"}
    assert [e["event"] for e in told] == [
        "campaign:scheduled",
        "server:action",
        "campaign:paused",
        "server:action",
    ]
    assert told[1]["data"] == {
        "action": "campaigns:start",
        "request": "POST /campaigns/{id}/start",
        "status": 200,
    }


async def test_no_number_of_a_person_is_written_down_as_an_address(
    door: Door, make: Make, db: Connection
) -> None:
    make.contact("+4915112345601")
    await door.send("DELETE", "/contacts/%2B4915112345601")
    assert "15112345601" not in json.dumps(list(events.since(db, 0)))


# -- events


async def test_events_page_by_page(door: Door, make: Make) -> None:
    for number in range(3):
        make.campaign(f"c{number}")
    page = (await door.get("/events?limit=2")).json()["data"]
    rest = (await door.get(f"/events?limit=2&since={page['next']}")).json()["data"]
    ids = [event["id"] for event in page["items"] + rest["items"]]
    assert (len(ids), ids, rest["whole"]) == (3, sorted(ids), True)
    assert (await door.get("/events?event=campaign:begun")).status_code == 400
    assert (await door.get("/events?event=campaign:paused")).json()["data"]["items"] == []


async def test_a_stream_tells_what_came_after_the_last_id(door: Door, make: Make) -> None:
    first = make.campaign("c1")
    make.campaign("c2")
    make.campaign("c3")
    head = {"last-event-id": str(next(iter(events.since(door.db, 0)))["id"])}
    door.house.closing.set()  # it says what there is, and ends: the app is asked in one piece
    await door.get("/events/stream", headers=head)
    door.house.closing.clear()
    told = await door.stream(head, events=2)
    assert [one["data"]["totalRecipients"] for one in told] == [0, 0]
    assert first.id not in {one["campaignId"] for one in told}
    assert (await door.get("/events/stream", headers={"last-event-id": "x"})).status_code == 400


# -- what is open, and what the document says


async def test_document_page_and_health_need_no_token(door: Door) -> None:
    bare = httpx.AsyncClient(transport=door.transport, base_url="http://here")
    document = (await bare.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert document["security"] == [{"token": []}]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert {"401", "403", "422"} <= operation["responses"].keys()
    page = await bare.get("/api/v1/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text.replace("http://here", "")
    assert "<script" not in page.text
    assert (await bare.get("/healthz")).json() == {"ok": True, "waiting": 0}
    await bare.aclose()


async def test_metrics(door: Door, make: Make) -> None:
    make.campaign(HELLO, people=2)
    text_ = (await door.http.get("http://here/metrics")).text
    assert 'wabcast_campaigns{status="draft"} 1' in text_
    assert 'wabcast_messages{account="shop",state="pending"} 2' in text_
    assert "wabcast_events_total 1" in text_


@given(st.integers(0, 2**59))
def test_a_cursor_comes_back_as_it_was(number: int) -> None:
    assert position(cursor(number)) == number


@given(st.text(max_size=50))
def test_no_text_breaks_the_reading_of_a_cursor(said: str) -> None:
    try:
        assert position(said) is not None
    except Problem as exc:
        assert exc.status == 400  # noqa: PT017  # either is right, a crash is not


async def test_a_cancel_is_done_though_the_run_still_waits_for_an_answer(
    door: Door, make: Make, db_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "LET_GO", timedelta(milliseconds=100))
    campaign = make.campaign(people=2, status="running", run_id="r")
    address, key = f"/campaigns/{campaign.id}/cancel", {"idempotency-key": "c"}
    with locks.held(db_path, campaign):
        first = await door.post(address, headers=key)
        assert (first.status_code, first.json()["data"]["status"]) == (200, "cancelled")
        again = await door.post(address, headers=key)
        assert (again.status_code, again.json()) == (200, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        assert (await door.post(address)).status_code == 200
    assert (await door.post(address)).json()["data"]["status"] == "cancelled"
    assert make.look(campaign).status is CampaignStatus.CANCELLED


async def test_what_is_busy_now_is_asked_again_with_the_same_key(
    door: Door, make: Make, db_path: Path
) -> None:
    campaign = make.campaign(people=2, status="paused")
    make.campaign_message("in_doubt", campaign=campaign)
    address, key = f"/campaigns/{campaign.id}/settle", {"idempotency-key": "d"}
    with locks.held(db_path, campaign):
        busy = await door.post(address, {"as": "failed"}, headers=key)
        assert (busy.status_code, busy.headers["retry-after"]) == (409, "5")
        assert busy.json()["data"]["type"] == "urn:wabcast:problem:busy"
    done = await door.post(address, {"as": "failed"}, headers=key)
    assert (done.status_code, done.json()["data"]["changed"]) == (200, 1)
    assert "idempotency-replayed" not in done.headers
