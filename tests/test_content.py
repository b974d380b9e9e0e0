"""A campaign's content: what is wrong for everybody, what is uploaded, what each person is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from pysqlite3.dbapi2 import Connection

from wabcast import content, drafts, uploads, wiring
from wabcast.audience import Audience, AudienceKind
from wabcast.campaign import Campaign
from wabcast.contacts import Contact
from wabcast.delivery import Accepted, Unsayable
from wabcast.drafts import Draft
from wabcast.errors import BadContent, Refused, WabcastError
from wabcast.message import Message
from wabcast.providers.base import Settings
from wabcast.providers.sandbox import SandboxProvider
from wabcast.providers.sandbox_app import Sandbox
from wabcast.providers.sandbox_knobs import Knobs
from wabcast.providers.sandbox_templates import TEMPLATES
from wabcast.store import accounts, imports, ledger, readiness, templates
from wabcast.store.accounts import Account

AT = "2026-11-05T10:00:00.000Z"
JPEG = b"\xff\xd8\xff\xe0" + b"x" * 100
ANA = Contact("+491713920001", first_name="Ana", language="de")


@pytest.fixture
def shop(db: Connection, clock: StillClock) -> Account:
    account, _ = accounts.add(db, Account("shop", "sandbox"), now=clock.now())
    templates.sync(db, account, TEMPLATES, at=AT)
    imports.upsert(db, [ANA], at=AT)
    return account


@pytest.fixture
async def provider() -> AsyncIterator[SandboxProvider]:
    knobs = Knobs(token="sandbox", latency=0)
    made = SandboxProvider(Settings("shop"), sandbox=Sandbox(knobs))
    yield made
    await made.aclose()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "spring.jpg"
    file.write_bytes(JPEG)
    return file


def put(file: Path, data: bytes) -> None:
    file.write_bytes(data)


class Outliving:
    """A provider whose WhatsApp is not ours: its media outlive this process."""

    def __init__(self) -> None:
        self.uploads: list[tuple[str, str, bytes]] = []

    async def upload(self, file_name: str, mime: str, content: bytes) -> str:
        self.uploads.append((file_name, mime, content))
        return f"70{len(self.uploads)}"

    async def templates(self) -> list[dict[str, Any]]:
        raise WabcastError("cannot ask")


def campaign(
    db: Connection, clock: StillClock, body: dict[str, Any], name: str = "spring", **said: Any
) -> Campaign:
    draft = Draft(account="shop", content=body, audience=Audience(AudienceKind.ALL), **said)
    return drafts.create(db, name, draft, clock)


def asked(name: str, language: str = "en_US", /, **params: str) -> dict[str, Any]:
    named = {key.replace("__", "."): value for key, value in params.items()}
    positional = {key.removeprefix("p"): value for key, value in named.items()}
    return {
        "type": "template",
        "template": {"name": name, "language": language, "params": positional},
    }


def spring(image: object, **more: str) -> dict[str, Any]:
    return asked("spring_offer", p1="{{ firstName }}", header__image=str(image), **more)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (asked("nowhere"), "no template nowhere is known on account shop"),
        (asked("paused_offer", p1="x"), "PAUSED"),
        (asked("greeting", "fr", p1="x", p2="y"), "not there in fr, but in en_US, de"),
        (asked("greeting", "{{ language }}", p1="x"), "no value for the parameter 2"),
        (asked("greeting", "de", p1="x", p2="y", p3="z"), "no parameter 3"),
        (spring("/nowhere/a.jpg"), "image /nowhere/a.jpg: there is no such file"),
        ({"type": "text", "text": {"body": ""}}, "text.body: is empty"),
        ({"type": "text", "text": {"body": " \n"}}, "text.body: is empty"),
        ({"type": "image", "image": {"link": "a.jpg"}}, "not an http"),
        ({"type": "image", "image": {"link": "{{ picture }}"}}, None),
        (asked("greeting", "{{ language }}", p1="x", p2="y"), None),
        ({"type": "text", "text": {"body": "Hi"}}, None),
    ],
)
def test_what_is_wrong_for_everybody_refuses(
    db: Connection, clock: StillClock, shop: Account, body: dict[str, Any], told: str | None
) -> None:
    if told is None:
        content.check(content.load(db, campaign(db, clock, body)))
        return
    with pytest.raises(BadContent, match=told):
        campaign(db, clock, body)
    assert db.execute("select count(*) from campaigns").fetchone()[0] == 0
    with pytest.raises(BadContent, match=told):
        content.check(content.prepare(db, body, shop, {}))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.jpg", JPEG, None),
        ("a.jpg", b"", "is empty"),
        ("a.jpg", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp by its content"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", "cannot go as image"),
        ("a.jpg", JPEG + b"x" * 5 * 1024 * 1024, "takes 5.0 MB"),
        ("a", JPEG, "image/jpeg by its content"),
    ],
)
def test_a_local_file_is_looked_at_before_anything_is_sent(
    db: Connection, shop: Account, tmp_path: Path, name: str, data: bytes, told: str | None
) -> None:
    (tmp_path / name).write_bytes(data)
    for body in (
        spring(tmp_path / name),
        {"type": "image", "image": {"file": str(tmp_path / name), "caption": "x"}},
    ):
        found = content.problems(content.prepare(db, body, shop, {}))
        assert (found == []) if told is None else (told in found[0])


def test_a_folder_and_a_name_that_no_file_can_have_are_told(db: Connection, shop: Account) -> None:
    for name in ("/", "a\x00b"):
        body = {"type": "image", "image": {"file": name}}
        if "\x00" in name:
            with pytest.raises(BadContent):
                content.prepare(db, body, shop, {})
            continue
        assert "cannot be read" in content.problems(content.prepare(db, body, shop, {}))[0]


@pytest.mark.parametrize("kind", ["template", "image"])
def test_no_contact_chooses_a_local_file(db: Connection, shop: Account, kind: str) -> None:
    name = "./{{ picture }}.jpg"
    body = spring(name) if kind == "template" else {"type": "image", "image": {"file": name}}
    with pytest.raises(BadContent, match="must be the same for all"):
        content.prepare(db, body, shop, {})
    assert content.prepare(db, body, shop, {"picture": "a"}).files == (("image", "./a.jpg"),)


async def test_two_thousand_with_an_image_are_one_upload(
    db: Connection, clock: StillClock, shop: Account, provider: SandboxProvider, picture: Path
) -> None:
    # The sandbox decides by the last digits: all of these are reached.
    people = [Contact(f"+4917{n}4441", first_name=f"P{n}") for n in range(1000, 3000)]
    imports.upsert(db, people, at=AT)
    made = campaign(db, clock, spring(picture))
    loaded = content.load(db, made)
    content.check(loaded)
    loaded = await content.upload_all(loaded, provider, db, clock)
    say = content.renderer(loaded)
    assert not readiness.unsayable(db, made, say)
    sent, after = 0, ("", 0)
    while page := ledger.due(db, made.number, now="9999", after=after, limit=500):
        for due in page:
            verdict = await provider.send(Message(due.phone, say(due), f"wabcast:c:{due.id}:1"))
            sent += isinstance(verdict, Accepted)
        after = (page[-1].due_at, page[-1].id)
    assert sent == 2001
    assert provider.sandbox.uploads == 1


async def test_a_file_is_uploaded_once_for_an_account_until_its_id_is_old(
    db: Connection, clock: StillClock, shop: Account, picture: Path
) -> None:
    whatsapp = Outliving()
    loaded = content.prepare(db, spring(picture), shop, {})
    other, _ = accounts.add(db, Account("other", "sandbox"), now=clock.now())

    async def image_id(of: Any) -> str:
        ready = await content.upload_all(of, whatsapp, db, clock)  # type: ignore[arg-type]  # no more is asked
        assert ready.files == ()
        said = content.speaker(ready)({"firstName": "Ana"})
        return str(said["template"]["components"][0]["parameters"][0]["image"]["id"])

    assert await image_id(loaded) == "701"
    assert await image_id(loaded) == "701"
    assert await image_id(replace(loaded, account_id=other.id)) == "702"
    put(picture, JPEG + b"another")
    assert await image_id(loaded) == "703"
    clock.advance(25 * 86_400)
    assert await image_id(loaded) == "704"
    assert [name for name, _, _ in whatsapp.uploads] == ["spring.jpg"] * 4


async def test_a_document_keeps_its_name_whichever_way_it_is_said(
    db: Connection, clock: StillClock, shop: Account, tmp_path: Path
) -> None:
    (tmp_path / "Menu.pdf").write_bytes(b"%PDF-1.7 x")
    header = {"type": "HEADER", "format": "DOCUMENT"}
    menu = {"name": "menu", "language": "en_US", "status": "APPROVED", "components": [header]}
    templates.sync(db, shop, [menu], at=AT)
    file = str(tmp_path / "Menu.pdf")
    for body in (
        asked("menu", header__document=file),
        {"type": "document", "document": {"file": file}},
    ):
        ready = await content.upload_all(
            content.prepare(db, body, shop, {}),
            Outliving(),  # type: ignore[arg-type]  # no more is asked
            db,
            clock,
        )
        said = content.speaker(ready)({})
        if "template" in said:
            said = said["template"]["components"][0]["parameters"][0]
        assert said["document"]["filename"] == "Menu.pdf"
        assert said["document"]["id"].startswith("70")


async def test_a_file_that_changed_since_it_was_looked_at_is_refused(
    db: Connection, clock: StillClock, shop: Account, picture: Path
) -> None:
    loaded = content.prepare(db, spring(picture), shop, {})
    content.check(loaded)
    put(picture, b"<!DOCTYPE html>")
    whatsapp = Outliving()
    with pytest.raises(Refused, match="text/html by its content"):
        await content.upload_all(loaded, whatsapp, db, clock)  # type: ignore[arg-type]  # as above
    assert whatsapp.uploads == []


def test_links_that_are_the_same_for_all_are_known(db: Connection, shop: Account) -> None:
    one = "https://x.example/a.jpg"
    bodies: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
        (spring(one), [("image", one)]),
        (spring("https://x.example/{{ what }}.jpg"), [("image", one)]),
        (spring("{{ picture }}"), []),
        ({"type": "video", "video": {"link": one}}, [("video", one)]),
        ({"type": "video", "video": {"link": "{{ picture }}"}}, []),
        ({"type": "text", "text": {"body": one}}, []),
    ]
    for body, known in bodies:
        assert content.links(content.prepare(db, body, shop, {"what": "a"})) == known


async def test_a_link_is_looked_at_unless_whatsapp_is_played(
    db: Connection, shop: Account, provider: SandboxProvider
) -> None:
    # A port that nobody listens on: the discard service.
    loaded = content.prepare(db, spring("http://127.0.0.1:9/a.jpg"), shop, {})
    assert await content.unreachable(loaded, provider) == []
    found = await content.unreachable(loaded, Outliving())  # type: ignore[arg-type]  # as above
    assert "http://127.0.0.1:9/a.jpg: cannot be fetched" in found[0]


async def test_a_start_asks_whatsapp_how_its_templates_are(
    db: Connection, clock: StillClock, shop: Account, provider: SandboxProvider
) -> None:
    made = campaign(db, clock, asked("greeting", "de", p1="a", p2="b"))
    db.execute("update templates set status = 'PAUSED' where name = 'greeting'")
    assert content.problems(content.load(db, made))
    assert content.problems(await content.refresh(db, made, provider, clock)) == []
    silent = await content.refresh(db, made, Outliving(), clock)  # type: ignore[arg-type]  # as above
    assert content.problems(silent) == []
    assert "does not tell" in content.warnings(db, silent)[0]


def test_marketing_to_the_united_states_is_warned_of(
    db: Connection, clock: StillClock, shop: Account
) -> None:
    phones = ["+12125550123", "+12125550124", "+14155550123", "+14165550123"]  # the last: Toronto
    imports.upsert(db, [Contact(phone) for phone in phones], at=AT)
    marketing = content.load(db, campaign(db, clock, asked("coupon", p1="a", button__0="SAVE")))
    (told,) = content.warnings(db, marketing)
    assert told.startswith("3 have a number of the United States")
    useful = content.load(db, campaign(db, clock, asked("hello_world"), "useful"))
    assert content.warnings(db, useful) == []


def test_a_template_written_out_and_unknown_is_let_go_with_a_warning(
    db: Connection, clock: StillClock, shop: Account
) -> None:
    written = {"name": "nowhere", "language": {"code": "en"}}
    loaded = content.load(db, campaign(db, clock, {"type": "template", "template": written}))
    content.check(loaded)
    assert "template sync --account shop" in content.warnings(db, loaded)[0]
    known = {"name": "paused_offer", "language": {"code": "en_US"}}
    body = {"type": "template", "template": known}
    with pytest.raises(BadContent, match="PAUSED"):
        content.check(content.load(db, campaign(db, clock, body, "paused")))


def test_one_number_is_told_as_a_contact_or_as_nobody(
    db: Connection, clock: StillClock, shop: Account
) -> None:
    body = {"type": "text", "text": {"body": "Hi {{ firstName }} {{ phone }}"}}
    loaded = content.load(db, campaign(db, clock, body))
    said = content.say_to(db, loaded, ANA.phone)
    assert said["text"]["body"] == f"Hi Ana {ANA.phone}"
    with pytest.raises(Unsayable, match="no value for firstName"):
        content.say_to(db, loaded, "+4915112345678")


def test_a_name_is_looked_for_as_segments_do_its_own_spelling_first() -> None:
    person = {"first_name": "Ana", "company": "", "phone": ANA.phone}
    attributes = {"City": "Berlin", "city": "Rom", "Loyalty Points": "7", "COMPANY": "Acme"}
    said = content.variables_of(
        dict.fromkeys(("last_name", "name", "email", "language", "timezone"))
        | person
        | {"attributes": json.dumps(attributes)}
    )
    assert (said["City"], said["city"], said["CITY"]) == ("Berlin", "Rom", "Berlin")
    assert (said["FirstName"], said["firstname"], said["loyalty_points"]) == ("Ana", "Ana", "7")
    assert said.get("company") is None  # no attribute passes for a field
    assert said.get("Company") is None
    with pytest.raises(KeyError):
        said["town"]


def test_nothing_is_read_to_say_it(db: Connection, clock: StillClock, shop: Account) -> None:
    made = campaign(db, clock, asked("greeting", "{{ language }}", p1="{{ firstName }}", p2="b"))
    say = content.renderer(content.load(db, made))
    (due,) = ledger.due(db, made.number, now="9999", after=("", 0), limit=9)
    db.close()
    assert say(due)["template"]["language"] == {"code": "de"}


def test_the_provider_of_a_sandbox_account_plays(shop: Account) -> None:
    assert uploads.is_played(wiring.provider_for(shop))
