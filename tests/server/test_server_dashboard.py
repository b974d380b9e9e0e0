"""The page without a browser: who is let in, what is shown to whom, and which forms count."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from conftest import StillClock
from doors import Door
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast import locks
from wabcast.campaign import Campaign
from wabcast.server import sessions
from wabcast.store import contacts, events, tokens


@pytest.fixture
async def door(db: Connection, db_path: Path, clock: StillClock) -> AsyncIterator[Door]:
    async with Door(db, db_path, clock) as door:
        yield door


class Visitor:
    """Somebody with a browser, logged in or not."""

    def __init__(self, door: Door) -> None:
        self.http = httpx.AsyncClient(transport=door.transport, base_url="http://here")

    async def login(self, token: str) -> httpx.Response:
        return await self.http.post("/login", data={"token": token})

    async def page(self, path: str = "/", status: int = 200) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    async def post(
        self, path: str, *, form: str | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        if form is None:
            form = _form(await self.page())
        return await self.http.post(path, data={"form": form}, headers=headers)


def _form(page: str) -> str:
    found = re.search('name="form" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def visitor(door: Door, role: str | None = "operator", *allow: str) -> Visitor:
    come = Visitor(door)
    await come.login(door.token(f"token {door.clock.random.random()}", role, *allow))
    return come


def at(campaign: Campaign, verb: str = "") -> str:
    return f"/campaigns/{campaign.id}" + (f"/{verb}" if verb else "")


@pytest.mark.parametrize("path", ["/", "/contacts", "/campaigns/x", "/parts/campaigns"])
async def test_without_a_log_in_there_is_only_the_door(door: Door, path: str) -> None:
    stranger = Visitor(door)
    answer = await stranger.http.get(path)
    assert answer.status_code == (401 if path.startswith("/parts") else 303)
    assert answer.text == ""
    assert answer.headers.get("location", "/login") == "/login"


async def test_the_cookie_is_not_the_token_and_no_script_can_read_it(door: Door) -> None:
    token = door.token("web", "viewer")
    answer = await Visitor(door).login(token)
    cookie = answer.headers["set-cookie"]
    assert token not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    https = Visitor(door)
    https.http.headers["x-forwarded-proto"] = "https"
    assert "Secure" in (await https.login(token)).headers["set-cookie"]


async def test_every_answer_has_the_strict_policy(door: Door, make: Make) -> None:
    come = await visitor(door)
    for path in ("/", "/login", "/nothing", at(make.campaign()), "/assets/style.css"):
        answer = await come.http.get(path)
        if answer.status_code != 404:
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert " on" not in re.sub(r">[^<]*<", "><", answer.text).replace(" on=", "")


async def test_a_run_whose_process_is_gone_is_called_so(
    door: Door, make: Make, db_path: Path
) -> None:
    campaign = make.campaign(status="running", people=3, run_id="a run", description="For all")
    come = await visitor(door)
    for path in ("/", at(campaign), f"/parts{at(campaign)}", "/parts/campaigns"):
        page = await come.page(path)
        assert "process gone" in page
        assert ("wabcast campaign resume" in page) is ("/campaigns/" in path)
        assert " left" not in page, "nothing is on its way"
        with locks.held(db_path, campaign):
            assert "gone" not in await come.page(path)


async def test_who_guesses_tokens_is_told_to_wait(door: Door) -> None:
    guesser = Visitor(door)
    told = [(await guesser.login(f"wab_0000000{n % 10}_x")).status_code for n in range(11)]
    assert told == [401] * 10 + [429]
    assert (await guesser.login(door.token("right", "viewer"))).status_code == 303


async def test_a_session_ends_with_its_token_with_time_and_by_hand(
    door: Door, clock: StillClock
) -> None:
    token = door.token("goes", "viewer")
    come = Visitor(door)
    await come.login(token)
    await come.page()
    tokens.revoke(door.db, "goes", at="2026-11-05T10:00:00.000Z")
    assert (await come.http.get("/")).status_code == 303
    late = await visitor(door)
    clock.advance(timedelta(microseconds=sessions.LASTS + 1))
    assert (await late.http.get("/")).status_code == 303
    gone = await visitor(door)
    left = await gone.post("/logout")
    assert left.headers["location"] == "/login"
    assert 'wabcast=""; ' in left.headers["set-cookie"]
    assert "Max-Age=0" in left.headers["set-cookie"]
    assert "wabcast" not in gone.http.cookies
    assert (await gone.http.get("/")).status_code == 303


async def test_a_form_counts_only_from_a_page_of_its_own_session(door: Door, make: Make) -> None:
    campaign = make.campaign(people=1)
    come, other = await visitor(door), await visitor(door)
    theirs = _form(await other.page())
    for answer in (
        await come.post(at(campaign, "start"), form=""),
        await come.post(at(campaign, "start"), form=theirs),
        await come.post(at(campaign, "start"), headers={"sec-fetch-site": "cross-site"}),
        await come.http.post(at(campaign, "start"), content=b"x" * 20_000),
        await come.http.post(at(campaign, "start"), content=b"\xff\xfe"),
    ):
        assert answer.status_code == 403
    assert (await come.http.get(at(campaign, "start"))).status_code == 405
    assert make.look(campaign).status == "draft"


async def test_what_a_button_does_is_written_down_under_the_tokens_name(
    door: Door, make: Make
) -> None:
    campaign = make.campaign(people=1)
    come = Visitor(door)
    await come.login(door.token("front desk", "operator"))
    answer = await come.post(at(campaign, "start"))
    assert answer.headers["location"] == at(campaign)
    page = await come.page(at(campaign))
    assert "It starts as soon as the runner takes it." in page
    assert "It starts as soon" not in await come.page(at(campaign)), "told once"
    assert make.look(campaign).status == "scheduled"
    told = [e for e in events.since(door.db, 0, campaign_id=campaign.id) if e.get("actor")]
    assert {e["actor"] for e in told} == {"token:front desk"}
    assert told[-1]["data"] == {
        "action": "campaigns:start",
        "request": "POST /campaigns/{id}/start",
        "status": 303,
    }


async def test_what_cannot_be_done_says_why(door: Door, make: Make) -> None:
    campaign = make.campaign(people=1, status="completed")
    come = await visitor(door)
    answer = await come.post(at(campaign, "pause"), headers={"referer": f"http://x{at(campaign)}"})
    assert answer.headers["location"] == at(campaign)
    assert "Cannot pause campaign with status: completed" in await come.page(at(campaign))


async def test_buttons_are_for_who_may_press_them(door: Door, make: Make) -> None:
    campaign = make.campaign(people=1)
    viewer = await visitor(door, "viewer")
    page = await viewer.page(at(campaign))
    assert "<button>Log out" in page.replace(' class="plain"', "")
    assert "do-start" not in page
    assert "do-duplicate" not in page
    assert (await viewer.post(at(campaign, "start"))).status_code == 403
    operator = await visitor(door, "operator")
    page = await operator.page(at(campaign))
    assert "do-start" in page
    assert "do-duplicate" in page
    assert "do-pause" not in page, "a draft"
    assert make.look(campaign).status == "draft"


async def test_people_are_for_who_may_see_them(door: Door, make: Make) -> None:
    campaign = make.campaign()
    ann = make.contact("+491511234567", name="Ann")
    make.campaign_message("in_doubt", campaign=campaign, contact=ann)
    blind = await visitor(door, None, "campaigns:read")
    assert "contacts" not in await blind.page()
    await blind.page("/contacts?q=ann", 403)
    page = await blind.page(at(campaign))
    assert "+491511234567" not in page
    assert "campaign settle" in page
    seeing = await visitor(door, "viewer")
    assert "+491511234567" in await seeing.page(at(campaign))
    await (await visitor(door, None, "contacts:read")).page("/", 403)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("ann", {"Ann"}),
        ("0151 1234", {"Ann"}),
        ("+4915198", {"O'Hara"}),
        ("o'h", {"O'Hara"}),
        ("' or 1=1 --", set()),
        ("%", {"Ann", "O'Hara"}),
        ("\x00", set()),
        ("Zoë", set()),
    ],
)
async def test_people_are_found_by_what_is_typed(
    door: Door, make: Make, said: str, found: set[str]
) -> None:
    make.contact("+491511234567", name="Ann")
    make.contact("+491519876543", name="O'Hara")
    come = await visitor(door)
    answer = await come.http.get("/contacts", params={"q": said})
    assert answer.status_code == 200
    page = answer.text.replace("&#39;", "'")
    assert {name for name in ("Ann", "O'Hara") if f'<th scope="row">{name}' in page} == found
    asked = said.isprintable()
    assert ("Nobody is found" in page) is (asked and not found)


async def test_opt_outs_are_shown_with_their_reason(door: Door, make: Make) -> None:
    make.contact("+491511234567", name="Ann")
    make.contact("+491519876543", name="Ben")
    contacts.opt_out(door.db, ["+491511234567"], reason="said STOP", at=make.at)
    page = await (await visitor(door)).page("/contacts?opted_out=1")
    assert "said STOP" in page
    assert "Ben" not in page


async def test_names_are_text(door: Door, make: Make) -> None:
    hostile = "<script>alert(1)</script>\"'[red]\x1b[2J\u202e"
    campaign = make.campaign(hostile[:25], description=hostile, people=0)
    make.campaign_message(
        "failed", campaign=campaign, error_code="1", error_message=hostile, failed_at=make.at
    )
    make.contact("+491511234567", name=hostile)
    come = await visitor(door)
    for path in ("/", at(campaign), "/contacts?q=script", f"/contacts?q={hostile[:25]}"):
        page = await come.page(path)
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        assert "\x1b" not in page
        assert "\u202e" not in page


async def test_what_went_wrong_is_told_by_cause_with_advice(door: Door, make: Make) -> None:
    campaign = make.campaign()
    make.campaign_message("failed", campaign=campaign, error_code="131026", failed_at=make.at)
    come = await visitor(door)
    for path in (at(campaign), f"/parts{at(campaign)}/trouble"):
        page = await come.page(path)
        assert "131026" in page
        assert "Check the number with the person." in page


async def test_there_is_no_other_campaign(door: Door, make: Make) -> None:
    campaign = make.campaign()
    come = await visitor(door)
    for wrong in (campaign.name, campaign.id[:8], "nothing"):
        await come.page(f"/campaigns/{wrong}", 404)
        assert (await come.post(f"/campaigns/{wrong}/start")).status_code == 404
    assert (await come.post(at(campaign, "delete"))).status_code == 404


async def test_an_account_is_asked_and_its_secrets_are_not_told(door: Door, make: Make) -> None:
    make.account("play")
    make.account("gone", "cloud", secrets={"token": "env:NO_SUCH_PLACE"})
    come = await visitor(door)
    await come.post("/accounts/play/check")
    assert "play: connected" in await come.page()
    await come.post("/accounts/gone/check")
    page = await come.page()
    assert "gone cannot be asked" in page
    assert "NO_SUCH_PLACE" not in page
    assert (await come.post("/accounts/nobody/check")).status_code == 404
