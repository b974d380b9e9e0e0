"""Whoever is erased is named nowhere any more, whatever comes later, and stays counted."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.applier import Applier
from wabcast.audience import Audience, AudienceKind
from wabcast.clock import text
from wabcast.contacts import Contact
from wabcast.delivery import Accepted, Rejected, Retry, settle
from wabcast.events import Event
from wabcast.providers.base import Settings
from wabcast.providers.sandbox import SandboxProvider
from wabcast.store import audits, campaigns, contacts, database, erasure, events, inbox, marks
from wabcast.store.contacts import Person
from wabcast.store.database import immediate
from wabcast.store.personal_data import PersonalData, erased_id

PHONE, OTHER = "+4915112345611", "+4915112345612"
DIGITS = PHONE[1:]
NAME, EMAIL, WORDS, BSUID = "Zebediah Quux", "zeb@quux.example", "private words", "DE.1349120865"


_nth = itertools.count(1)


def wamid(phone: str) -> str:
    """Another id, as Meta makes them: the number stands in its base64."""
    inner = b"\x1c\x18" + bytes([len(phone) - 1]) + phone[1:].encode() + b"\x15\x02\x00"
    return "wamid." + base64.b64encode(inner + b"\xff" * 6 + bytes([next(_nth) % 256])).decode()


def remains(db: Connection, *needles: str) -> list[str]:
    """Where one of `needles`, or an id with the number in it, stands in the file."""
    data = PersonalData([PHONE], [BSUID], [NAME, EMAIL])
    found = []
    for (table,) in db.execute("select name from sqlite_schema where type = 'table'").fetchall():
        for row in db.execute(f'select * from "{table}"').fetchall():  # noqa: S608  # its own
            for name in row.keys():  # noqa: SIM118  # a row iterates over its values
                told = (
                    row[name].decode("utf-8", "replace")
                    if isinstance(row[name], bytes)
                    else row[name]
                )
                if isinstance(told, str) and (
                    data.names_in(told) or any(n in told for n in needles)
                ):
                    found.append(f"{table}.{name}: {told[:80]}")
    return found


def person(make: Make, phone: str = PHONE) -> int:
    return make.contact(phone, name=NAME, email=EMAIL, bsuid=BSUID, first_name="Zebediah")


def erase(db: Connection, clock: StillClock, phone: str = PHONE) -> int:
    return erasure.remove(db, phone, at=text(clock.now()), clock=clock)


class Wire:
    """One campaign of one person, and what a run, WhatsApp and somebody who erases do to it."""

    def __init__(self, db: Connection, make: Make, clock: StillClock, *, ref: bool) -> None:
        self.db, self.make, self.clock, self.ref = db, make, clock, ref
        self.contact = person(make)
        audience = Audience(AudienceKind.PHONES, phones=(PHONE,))
        self.campaign = make.campaign(status="running", run_id="run", audience=audience)
        self.due = make.due(self.campaign)[0]
        self.wamid = wamid(PHONE)
        provider = SandboxProvider(Settings("shop", {}))
        self._applier = Applier(
            clock, lambda _: provider, trace=True, reply_window=timedelta(hours=72)
        )
        self._bodies = itertools.count(1)

    def intend(self) -> None:
        intents = [marks.Intent(self.due, json.dumps({"text": f"Hi {NAME}"}), 1)]
        with immediate(self.db):
            marks.intend(
                self.db, intents, campaign=self.campaign.number, run="run", at=self.clock.now()
            )

    def outcome(self, *, accepted: bool = True, opt_out: bool = False) -> None:
        told = f"{DIGITS} ({NAME}) wants nothing"
        verdict = Accepted(self.wamid) if accepted else Rejected("131050", told, opt_out=opt_out)
        settled = settle(1, verdict, retry=Retry(), chance=0.5)
        with immediate(self.db):
            marks.record(
                self.db, [marks.Outcome(self.due, settled, 1, self.clock.now())], run="run"
            )

    def post(self, item: dict[str, Any], kind: str = "statuses", *, apply: bool = True) -> None:
        value = {kind: [item], "contacts": [{"wa_id": DIGITS, "profile": {"name": NAME}}]}
        body = {
            "n": next(self._bodies),
            "entry": [{"changes": [{"field": "messages", "value": value}]}],
        }
        with immediate(self.db):
            account = self.campaign.account_id
            inbox.keep(self.db, account, json.dumps(body).encode(), at=text(self.clock.now()))
        if apply:
            self.apply()

    def apply(self) -> None:
        self._applier.all(self.db)
        self._applier.early(self.db, [self.campaign.account_id])

    def receipt(self, status: str = "delivered", *, apply: bool = True) -> None:
        item: dict[str, Any] = {"id": self.wamid, "status": status, "recipient_id": DIGITS}
        if self.ref:
            item["biz_opaque_callback_data"] = f"wabcast:{self.campaign.id}:{self.due.id}:1"
        if status == "failed":
            item["errors"] = [{"code": 131050, "message": f"{DIGITS} stopped"}]
        self.post(item, apply=apply)

    def reply(self, said: str = WORDS, *, apply: bool = True) -> None:
        item = {"id": wamid(PHONE), "from": DIGITS, "type": "text", "text": {"body": said}}
        self.post(item | {"context": {"id": self.wamid}}, "messages", apply=apply)

    def status(self) -> str:
        row = self.db.execute("select status from campaign_messages").fetchone()
        return str(row[0])

    def check(self) -> None:
        assert audits.audit(self.db, self.make.look(self.campaign)) == []
        assert audits.audit_file(self.db).findings == []


@pytest.mark.parametrize("ref", [True, False], ids=["ref", "id only"])
def test_what_was_on_the_wire_is_counted_and_names_nobody(
    db: Connection, make: Make, clock: StillClock, ref: bool
) -> None:
    wire = Wire(db, make, clock, ref=ref)
    wire.intend()
    erase(db, clock)
    wire.outcome()
    assert wire.status() == "sent"
    wire.receipt("delivered")
    wire.receipt("read")
    assert wire.status() == "read"
    wire.reply()
    assert wire.status() == "replied"
    assert remains(db, WORDS) == []
    told = make.look(wire.campaign)
    assert (told.messages_sent, told.messages_read, told.messages_replied) == (1, 1, 1)
    bodies = db.execute("select body, applied_at from webhook_inbox").fetchall()
    assert all(row["body"] == b"" and row["applied_at"] for row in bodies)
    wire.check()


def test_a_refusal_of_what_was_on_the_wire_names_nobody_and_bars_them(
    db: Connection, make: Make, clock: StillClock
) -> None:
    wire = Wire(db, make, clock, ref=True)
    wire.intend()
    erase(db, clock)
    wire.outcome(accepted=False, opt_out=True)
    assert wire.status() == "failed"
    row = db.execute("select error_code, error_message from campaign_messages").fetchone()
    assert tuple(row) == ("131050", "contact removed")
    assert remains(db) == []
    contacts.upsert(db, [Contact(PHONE)], at=make.at)
    assert contacts.get(db, PHONE).opt_out_reason == "131050"
    wire.check()


@pytest.mark.parametrize("said", ["receipt", "stop"])
def test_a_wish_that_comes_after_the_erasure_bars_them(
    db: Connection, make: Make, clock: StillClock, said: str
) -> None:
    wire = Wire(db, make, clock, ref=True)
    wire.intend()
    wire.outcome()
    erase(db, clock)
    wire.receipt("failed") if said == "receipt" else wire.reply("STOP")
    assert remains(db) == []
    contacts.upsert(db, [Contact(PHONE)], at=make.at)
    assert contacts.get(db, PHONE).opted_out_at
    wire.check()


def test_a_body_that_waits_is_applied_and_then_forgotten(
    db: Connection, make: Make, clock: StillClock
) -> None:
    wire = Wire(db, make, clock, ref=True)
    wire.intend()
    wire.outcome()
    wire.receipt("delivered", apply=False)
    wire.reply(apply=False)
    early = wamid(PHONE)
    unquoted = {"id": early, "from": DIGITS, "type": "text", "text": {"body": WORDS}}
    wire.post(unquoted, "messages", apply=False)
    erase(db, clock)
    assert wire.status() == "sent"
    wire.apply()
    assert wire.status() == "replied"
    assert remains(db, WORDS) == []
    # WhatsApp sends it again: it is the same one, and nothing new is kept of it.
    before = db.execute("select count(*) from inbound_messages").fetchone()[0]
    wire.post(unquoted, "messages")
    assert db.execute("select count(*) from inbound_messages").fetchone()[0] == before
    assert erased_id(early) in {
        row[0] for row in db.execute("select whatsapp_message_id from inbound_messages")
    }
    wire.check()


STEPS = st.permutations(["outcome", "delivered", "read", "reply", "erase"])


@given(STEPS, st.booleans(), st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whenever_it_is_and_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], ref: bool, late: bool
) -> None:
    done = {"outcome", "erase"} if late else set(steps)  # at once; the others at the end
    when = {step: at if step in done else len(steps) for at, step in enumerate(steps)}
    known = min(when[step] for step in (("outcome", "delivered", "read") if ref else ("outcome",)))
    # In these milliseconds what they write is a stranger's, who quotes what nobody knows.
    assume(not when["erase"] < when["reply"] < known)
    db = database.connect(tmp_path_factory.mktemp("erase") / "wabcast.db")
    clock = StillClock()
    wire = Wire(db, Make(db, clock), clock, ref=ref)
    wire.intend()
    for step in steps:
        clock.advance(1)
        match step:
            case "outcome":
                wire.outcome()
            case "erase":
                erase(db, clock)
            case "reply":
                wire.reply(apply=not late)
            case _:
                wire.receipt(step, apply=not late)
    wire.apply()
    wire.outcome()  # told twice: it changes nothing
    # What they wrote before the outcome was known is linked by a receipt, if by anything.
    assert wire.status() in ({"replied"} if known < when["reply"] else {"replied", "read"})
    # An id without a row is parked as it came; an id of who gives none back holds no number.
    assert [told for told in remains(db, WORDS) if not told.startswith("parked_")] == []
    wire.check()
    db.close()


def everywhere(db: Connection, make: Make) -> None:
    """Name the person in every text that is not about them alone; and a neighbour beside."""
    contact = person(make)
    make.contact(OTHER)
    named = Audience(AudienceKind.PHONES, phones=(PHONE, OTHER), exclude_phones=(PHONE,))
    campaign = make.campaign("spring", audience=named, description=f"for {NAME}, {PHONE}")
    reason = f"131026 {DIGITS} and {OTHER[1:]} cannot be reached ({wamid(PHONE)})"
    with immediate(db):
        db.execute("update campaigns set reason = ?", (reason,))
        db.execute("update accounts set halted_reason = ?, cooling_reason = ?", (reason, reason))
        db.execute(
            "insert into hooks (key, url, last_error, created_at) values ('k', 'https://h', ?, '')",
            (f"HTTP 500: no {PHONE}",),
        )
        db.execute(
            "insert into segments (name, expression, created_at) values ('s', ?, '')",
            (f"phone in ('{PHONE}', '{OTHER}')",),
        )
        for phone in (PHONE, OTHER):
            data = {"phone": phone, "reason": f"wrote '{WORDS}'", "whatsappMessageId": wamid(phone)}
            event = Event("contact:opted_out", None, data)
            events.add(db, event, at=make.at)
            db.execute(
                "insert into parked_receipts (account_id, whatsapp_message_id, receipt, parked_at)"
                " values (?, ?, '{}', '')",
                (campaign.account_id, wamid(phone)),
            )
            inbox.keep(db, campaign.account_id, f'{{"to": "{phone[1:]}"}}'.encode(), at="")
            db.execute(
                "insert into inbound_messages (account_id, whatsapp_message_id, kind, content,"
                " context_id, received_at) values (?, ?, 'text', 'hi', ?, '')",
                (campaign.account_id, wamid(phone), wamid(phone)),
            )
            db.execute(
                "insert into idempotency_keys (token_id, key, request, at, status, headers, body)"
                " values (1, ?, 'digest', '', 201, '{}', ?)",
                (phone, json.dumps({"phone": phone}).encode()),
            )
        db.execute("update webhook_inbox set applied_at = '', error = ?", (f"KeyError: {PHONE}",))
        db.execute(
            "update contacts set opted_out_at = '2026', opt_out_reason = ? where id = ?",
            (f"wrote '{NAME} says {WORDS}'", contact),
        )


@pytest.fixture
def token(db: Connection) -> None:
    db.execute(
        "insert into tokens (id, key, name, role, hash, created_at) values (1, 'k', 'n', 'admin',"
        " 'h', '')"
    )


@pytest.mark.usefixtures("token")
def test_nobody_is_named_anywhere_and_the_neighbour_still_is(
    db: Connection, make: Make, clock: StillClock
) -> None:
    everywhere(db, make)
    assert len(remains(db)) > 15
    erase(db, clock)
    assert remains(db) == []
    told = campaigns.get(db, "spring")
    assert told.audience["phones"] == ["removed", OTHER]
    assert told.reason == f"131026 removed and {OTHER[1:]} cannot be reached (removed)"
    parked = db.execute("select whatsapp_message_id from parked_receipts").fetchall()
    assert [PersonalData([OTHER]).names_in(row[0]) for row in parked] == [False, True]
    data = [json.loads(row[0]) for row in db.execute("select data from events").fetchall()]
    wishes = [one for one in data if "reason" in one]
    assert wishes[0] == {"phone": "removed", "reason": "removed", "whatsappMessageId": None}
    assert wishes[1]["phone"] == OTHER
    assert WORDS in wishes[1]["reason"]
    kept = db.execute("select key, erased_at, body from idempotency_keys").fetchall()
    assert {row["key"]: (row["erased_at"] is None, row["body"] is None) for row in kept} == {
        erased_id(PHONE): (False, True),
        OTHER: (True, False),
    }
    (reason,) = db.execute("select reason from suppressions").fetchone()
    assert reason == "wrote to stop"
    expression = db.execute("select expression from segments").fetchone()[0]
    assert expression == f"phone in ('0', '{OTHER}')"
    contacts.count(db, Audience(AudienceKind.SEGMENT, segment="s"))


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (PHONE, True),
        (f"to {DIGITS}@c.us", True),
        (f"{DIGITS}0", False),
        (f"1{DIGITS}", False),
        (OTHER, False),
        (wamid(PHONE), True),
        (wamid(PHONE).replace("/", "\\/"), True),
        (wamid(OTHER), False),
        (wamid("+1" + DIGITS), False),
        ("wamid.", False),
        ("wamid.A", False),
        (f"{NAME}'s", True),
        ("", False),
    ],
)
def test_a_number_is_found_as_a_whole_number(told: str, wanted: bool) -> None:
    data = PersonalData([PHONE], [BSUID], [NAME])
    assert data.names_in(told) is wanted
    assert (data.scrub(told.replace("\\/", "/")) != told.replace("\\/", "/")) is wanted


MANY = 3000
FILL = """
with recursive n (i) as (select 1 union all select i + 1 from n where i < :rows)
insert into webhook_inbox (account_id, received_at, body, digest, applied_at)
select 1, '', cast('{"to": "' || iif(i % 2, :digits, '49') || '"}' as blob), '', '' from n
"""
CAMPAIGNS = """
with recursive n (i) as (select 1 union all select i + 1 from n where i < :rows)
insert into campaigns (id, name, account_id, content, audience, created_at, updated_at)
select 'c' || i, 'c' || i, 1, '{}', '{}', '', '' from n
"""
MESSAGES = """
insert into campaign_messages (campaign_id, contact_id, due_at, status, error_message)
select number, 1, '', 'pending', :digits || '-' || number from campaigns
"""


def crowded(db: Connection, make: Make) -> None:
    """A person in thousands of campaigns and bodies."""
    make.account()
    person(make)
    given = {"rows": MANY, "digits": DIGITS}
    with immediate(db):
        for statement in (FILL, CAMPAIGNS, MESSAGES):
            db.execute(statement, given)
        db.execute("update campaigns set total_recipients = 1, pending = 1")


def test_it_goes_in_pieces_between_which_others_write(
    db: Connection, db_path: Path, make: Make, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(db, make)
    rival = database.connect(db_path, busy_seconds=0)
    turns = 0

    def pause(_seconds: float) -> None:
        nonlocal turns
        turns += 1
        with immediate(rival):
            rival.execute("update accounts set next_slot_at = next_slot_at + 1")

    monkeypatch.setattr(clock, "pause", pause)
    assert erase(db, clock) == MANY
    assert turns >= 3
    assert remains(db) == []
    assert db.execute("select sum(skipped), sum(pending) from campaigns").fetchone()[0] == MANY
    rival.close()


KILLED = """
import sys
from pathlib import Path
from wabcast.clock import Clock, text
from wabcast.store import database, erasure
db = database.connect(Path(sys.argv[1]))
erasure.remove(db, sys.argv[2], at=text(Clock().now()), clock=Clock())
"""


@pytest.mark.parametrize("where", ["in-piece:1", "after-piece:2", "in-piece:4", "after-piece:5"])
def test_killed_in_the_middle_it_is_gone_on_with(
    db: Connection, db_path: Path, make: Make, clock: StillClock, where: str
) -> None:
    crowded(db, make)
    environment = {**os.environ, "WABCAST_FAILPOINT": where}
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(db_path), PHONE], env=environment, timeout=60
    )
    assert ran.returncode == -signal.SIGKILL
    assert isinstance(contacts.get(db, PHONE), Person)
    erase(db, clock)
    assert remains(db) == []
    assert tuple(db.execute("select sum(skipped), sum(pending) from campaigns").fetchone()) == (
        MANY,
        0,
    )
    for campaign in campaigns.listed(db)[:3]:
        assert audits.audit(db, campaign) == []


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (erasure.MESSAGES, "campaign_messages_contact"),
        (erasure.INBOUND, "inbound_messages_contact"),
        (erasure.PARKED_OF, "account_id=? AND whatsapp_message_id=?"),
        (marks.FORGET_PARKED, "account_id=? AND whatsapp_message_id=?"),
    ],
)
def test_while_the_file_is_locked_nothing_is_looked_through(
    db: Connection, statement: str, index: str
) -> None:
    given = {"id": 1, "most": 1, "rows": "[]", "message_id": "", "hashed": ""}
    plan = " ".join(row[3] for row in db.execute("explain query plan " + statement, given))
    assert index in plan
    assert "SCAN p" not in plan
