"""An outcome and the receipts of a message may come in any order; the row ends the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import StillClock
from hypothesis import given
from hypothesis import strategies as st
from make import Make
from pysqlite3.dbapi2 import Connection

from wabcast.campaign import Campaign
from wabcast.clock import text
from wabcast.delivery import Accepted, Lost, Rejected, Retry, Verdict, settle
from wabcast.receipts import Receipt, Ref, Status
from wabcast.store import database, marks, receipts
from wabcast.store.marks import Intent, Outcome

RUN = "run"
WAMID = "wamid.1"
GONE = Rejected("131026", "undeliverable")

News = Verdict | tuple[Status, bool]
"""An outcome, or a receipt: of what, and whether it carries our reference."""


class Stage:
    """A campaign of one person, whose message is on the wire."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.make = Make(db, StillClock())
        self.campaign: Campaign = self.make.campaign(people=1, status="running", run_id=RUN)
        [self.message] = self.make.due(self.campaign)

    def outcome_of(self, happened: Sequence[Sequence[News]]) -> dict[str, Any]:
        """What the row and the counters are after these groups, each a commit. Undone after."""
        self.db.execute("savepoint stage")
        try:
            at = self.make.clock.now()
            intents = [Intent(self.message, "{}", 1)]
            marks.intend(self.db, intents, campaign=self.campaign.number, run=RUN, at=at)
            for group in happened:
                self._tell([news for news in group if isinstance(news, tuple)])
                for news in group:
                    if not isinstance(news, tuple):
                        self._record(news)
            receipts.apply_parked(self.db, self.campaign.account_id, at=text(at))
            now = self.make.look(self.campaign)
            row = dict(self.db.execute("select * from campaign_messages").fetchone())
            counted = {
                name: getattr(now, name)
                for name in ("messages_sent", "messages_failed", "messages_delivered", "in_doubt")
            }
            return row | counted
        finally:
            self.db.execute("rollback to stage")
            self.db.execute("release stage")

    def _record(self, verdict: Verdict) -> None:
        at = self.make.clock.now() + timedelta(milliseconds=700)
        settled = settle(1, verdict, retry=Retry(), chance=0.5)
        marks.record(self.db, [Outcome(self.message, settled, 1, at)], run=RUN)

    def _tell(self, told: Sequence[tuple[Status, bool]]) -> None:
        now = self.make.clock.now()
        after = {Status.SENT: 1, Status.FAILED: 2, Status.DELIVERED: 3, Status.READ: 4}
        news = [
            Receipt(
                WAMID,
                status,
                now + timedelta(seconds=after[status]),
                ref=Ref(self.campaign.id, self.message.id, 1) if named else None,
                error=GONE if status is Status.FAILED else None,
            )
            for status, named in told
        ]
        if news:
            receipts.apply(self.db, self.campaign.account_id, news, at=text(now))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path: Path = tmp_path_factory.mktemp("order") / "wabcast.db"
    db = database.connect(path)
    yield Stage(db)
    db.close()


@pytest.mark.parametrize("named", [True, False])
def test_an_outcome_and_a_failure_in_either_order(stage: Stage, named: bool) -> None:
    failure = (Status.FAILED, named)
    answered = stage.outcome_of([[Accepted(WAMID)], [failure]])
    failed_first = stage.outcome_of([[failure], [Accepted(WAMID)]])
    assert answered == failed_first
    assert (answered["status"], answered["error_code"]) == ("failed", "131026")
    assert (answered["messages_sent"], answered["messages_failed"]) == (1, 1)
    assert answered["whatsapp_message_id"] == WAMID


def test_what_failed_after_it_was_taken_has_been_sent(stage: Stage) -> None:
    """Also where no answer came: it has an id of WhatsApp's, so it was taken."""
    failure: News = (Status.FAILED, True)
    orders: list[list[News]] = [[failure], [Lost("cut"), failure], [failure, Lost("cut")]]
    for happened in orders:
        row = stage.outcome_of([[news] for news in happened])
        assert (row["messages_sent"], row["messages_failed"], row["in_doubt"]) == (1, 1, 0)
        assert row["sent_at"] == row["queued_at"]


@pytest.mark.parametrize("told", [Status.SENT, Status.DELIVERED, Status.READ])
def test_an_outcome_leaves_the_time_that_a_receipt_has_set(stage: Stage, told: Status) -> None:
    first = stage.outcome_of([[(told, True)]])
    assert first["sent_at"] is not None
    after = stage.outcome_of([[(told, True)], [Accepted(WAMID)]])
    assert (after["sent_at"], after["status"]) == (first["sent_at"], first["status"])
    assert stage.outcome_of([[Accepted(WAMID)], [(told, True)]]) == after


def test_an_acceptance_that_comes_after_the_doubt_settles_it(stage: Stage) -> None:
    """Its run was thought dead, and its row was put in doubt, or owed again by a person."""
    assert stage.outcome_of([[Lost("cut")], [Accepted(WAMID)]])["status"] == "sent"


ALL: list[tuple[Status, bool]] = list(itertools.product(Status, (True, False)))


@given(
    verdict=st.sampled_from([Accepted(WAMID), Lost("cut")]),
    told=st.lists(st.sampled_from([one for one in ALL if one[0] is not Status.PLAYED]), max_size=4),
    data=st.data(),
)
def test_an_outcome_is_news_like_any_other(
    stage: Stage, verdict: Verdict, told: list[tuple[Status, bool]], data: st.DataObject
) -> None:
    news: list[News] = [verdict, *told]
    first = stage.outcome_of([[one] for one in news])
    shuffled = data.draw(st.permutations(news))
    cut = data.draw(st.integers(0, len(news)))
    assert stage.outcome_of([shuffled[:cut], shuffled[cut:]]) == first
    assert stage.outcome_of([[one] for one in shuffled]) == first
