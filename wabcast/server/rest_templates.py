"""/templates and /accounts: what can be said, and who says it. Of accounts nothing secret."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from wabcast import clock, message, template_process
from wabcast.server.desk import Desk, may
from wabcast.server.models import AccountTold, Answer, Removed, TemplateAsked, TemplateTold
from wabcast.store import accounts, templates
from wabcast.store.accounts import Account
from wabcast.store.templates import Saved

router = APIRouter()

Reads = Annotated[Desk, Depends(may("templates:read"))]
Writes = Annotated[Desk, Depends(may("templates:write"))]
ReadsAccounts = Annotated[Desk, Depends(may("accounts:read"))]
OfAccount = Annotated[str | None, Query(max_length=64, description="WhatsApp's, on this account")]


@router.get("/templates", tags=["templates"], summary="Ours and WhatsApp's, without their bodies")
def listed(desk: Reads, account: OfAccount = None) -> Answer[list[TemplateTold]]:
    found = templates.every(desk.db, account)
    return Answer(data=[TemplateTold(**saved.to_json()) for saved in found])


@router.post("/templates", tags=["templates"], status_code=201, summary="Keep a message")
def add(asked: TemplateAsked, desk: Writes) -> Answer[TemplateTold]:
    body = message.text(asked.text) if asked.text is not None else dict(asked.message or {})
    template_process.vet(body)
    saved, new = templates.add(desk.db, asked.name, body, description=asked.description, at=desk.at)
    told = "Template saved" if new else "Template is there already"
    return Answer(message=told, data=_whole(saved))


@router.get("/templates/{name}", tags=["templates"], summary="One, in each of its languages")
def show(name: str, desk: Reads, account: OfAccount = None) -> Answer[list[TemplateTold]]:
    return Answer(data=[_whole(saved) for saved in templates.get(desk.db, name, account)])


@router.delete("/templates/{name}", tags=["templates"], summary="Forget it here")
def remove(name: str, desk: Writes, account: OfAccount = None) -> Answer[Removed]:
    gone = templates.remove(desk.db, name, account)
    return Answer(message="Template removed", data=Removed(removed=len(gone)))


@router.get("/accounts", tags=["accounts"], summary="The senders")
def senders(desk: ReadsAccounts) -> Answer[list[AccountTold]]:
    return Answer(data=[_account(one) for one in accounts.every(desk.db)])


@router.get("/accounts/{name}", tags=["accounts"], summary="One sender")
def sender(name: str, desk: ReadsAccounts) -> Answer[AccountTold]:
    return Answer(data=_account(accounts.get(desk.db, name)))


def _whole(saved: Saved) -> TemplateTold:
    body = saved.body if saved.account is None else saved.definition
    return TemplateTold(**saved.to_json(), body=dict(body))


def _account(one: Account) -> AccountTold:
    cooling = clock.text(one.cooling_until) if one.cooling_until else None
    shown = {name: getattr(one, name) for name in AccountTold.model_fields if hasattr(one, name)}
    return AccountTold(**{**shown, "cooling_until": cooling})
