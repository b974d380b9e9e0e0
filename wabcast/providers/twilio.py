"""Twilio's WhatsApp (PROVIDERS 7): text, media by link, and approved content by its SID.

What a reader must not break: a request without an answer is reconciled by asking Twilio what
it has for this person since then; only a message that is found there counts as sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from wabcast.clock import Clock
from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import Refused, UsageError
from wabcast.message import Message
from wabcast.providers.base import Health, Settings
from wabcast.providers.gateway import MEDIA, medium, text_of
from wabcast.providers.http import TIMEOUT, Answer, AsyncBaseTransport, HttpFault, Unsent
from wabcast.providers.plain import PlainProvider
from wabcast.receipts import Inbound, News, Person, Receipt, Status, person

BASE = "https://api.twilio.com"

REMEMBERED = 10_000
"""Messages whose SID is known, and which are therefore not the one whose answer was lost."""

_SID = re.compile(r"AC[0-9A-Za-z]{1,64}")
_SENDER = re.compile(r"\+\d{6,15}")

_ACCOUNT, _CAMPAIGN, _MESSAGE = Scope.ACCOUNT, Scope.CAMPAIGN, Scope.MESSAGE
_THROTTLED = frozenset({20429, 63018, 63017, 14107, 30001})
_TRANSIENT = frozenset({63009, 63010, 63012, 30008})
_GONE = frozenset({63003, 63024, 63032, 63016, 21211, 21614})
_STOPPED = frozenset({21610, 63033, 63014})
_WRONG = frozenset({63005, 63021, 63028, 63030, 21655, 21656, 21617, 63019})
_TEMPLATE = frozenset({63027, 63041, 63040})
_LOCKED = frozenset({20003, 63001, 63002, 63007, 63008, 63013, 63020, 63022, 63026, 63038})
"""The classes of PROVIDERS 7, the one place where the codes stand."""

_STATUSES = {
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "failed": Status.FAILED,
    "undelivered": Status.FAILED,
}


class TwilioProvider(PlainProvider):
    """`account_sid`, `from` (a number, or `messaging_service_sid`), and the auth token.

    `webhook_url` and `status_callback` are the addresses that Twilio was given: its signatures
    are over them, and without them no webhook is believed.
    """

    name: ClassVar[str] = "twilio"
    needed_settings: ClassVar[tuple[str, ...]] = ("account_sid",)
    optional_settings: ClassVar[tuple[str, ...]] = (
        "from",
        "messaging_service_sid",
        "status_callback",
        "webhook_url",
        "base_url",
    )
    needed_secrets: ClassVar[tuple[str, ...]] = ("auth_token",)
    optional_secrets: ClassVar[tuple[str, ...]] = ()
    signing_secrets: ClassVar[tuple[str, ...]] = ("auth_token",)
    carries: ClassVar[frozenset[str]] = frozenset({"text", "template", *MEDIA})
    default_rate: ClassVar[str | None] = "80/s"
    usual_url: ClassVar[str] = BASE
    transient_codes: ClassVar[frozenset[str]] = frozenset(map(str, _THROTTLED | _TRANSIENT)) | {
        "connect",
        "429",
    }

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str],
        *,
        concurrency: int = 10,
        timeout: float = TIMEOUT,  # one bound for all requests
        transport: AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            settings, secrets, concurrency=concurrency, timeout=timeout, transport=transport
        )
        self.clock = clock or Clock()
        self._known: dict[str, None] = {}
        self._account = f"2010-04-01/Accounts/{settings.get('account_sid')}"

    def headers(self) -> Mapping[str, str]:
        key = f"{self.settings.get('account_sid')}:{self.secrets['auth_token']}"
        return {"authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}

    @classmethod
    def validate(cls, values: Mapping[str, str]) -> None:
        super().validate(values)
        if not values.get("from") and not values.get("messaging_service_sid"):
            raise UsageError(
                "a twilio account needs a sender", hint="--set from=+1... or messaging_service_sid"
            )
        if not _SID.fullmatch(values["account_sid"]):
            raise UsageError(
                f"not an account SID: {values['account_sid']!r}", hint="it begins with AC"
            )
        if values.get("from") and not _SENDER.fullmatch(_number(values["from"])):
            raise UsageError(f"not a sender: {values['from']!r}", hint="as in from=+14155238886")
        for key in ("status_callback", "webhook_url"):
            if values.get(key) and not values[key].startswith(("https://", "http://")):
                raise UsageError(f"{key} is a URL, not {values[key]!r}", hint="https://...")

    async def send(self, message: Message) -> Verdict:
        """One POST; where no answer came, Twilio is asked whether it has the message."""
        wanted = self.request(message)
        if wanted is None:
            return self.unsayable(message)
        path, form = wanted
        began = self.clock.now()
        content = urlencode(form).encode()
        kind = "application/x-www-form-urlencoded"
        try:
            answer = await self.http.post(path, content, kind)
        except Unsent as exc:
            return Deferred("connect", str(exc), scope=_ACCOUNT)
        except HttpFault as exc:
            verdict: Verdict = Lost(str(exc), "no_answer")
        else:
            verdict = self.verdict(answer)
        if isinstance(verdict, Lost):
            found = await self._find(form, began)
            verdict = Accepted(found) if found else verdict
        if isinstance(verdict, Accepted):
            self._remember(verdict.message_id)
        return verdict

    def _remember(self, sid: str) -> None:
        self._known[sid] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def request(self, message: Message) -> tuple[str, dict[str, str]] | None:
        """Twilio takes a form, where the others take JSON."""
        form = {"To": f"whatsapp:{message.to}"}
        if service := self.settings.get("messaging_service_sid"):
            form["MessagingServiceSid"] = service
        else:
            form["From"] = f"whatsapp:{_number(self.settings.get('from'))}"
        if callback := self.settings.get("status_callback"):
            form["StatusCallback"] = callback
        text, sent = text_of(message.body), medium(message.body)
        template = message.body.get("template")
        if text is not None:
            form["Body"] = text
        elif sent is not None:
            form |= {"MediaUrl": sent[1], **({"Body": sent[2]} if sent[2] else {})}
        elif isinstance(template, dict) and str(template.get("name", "")).startswith("HX"):
            form["ContentSid"] = template["name"]
            if variables := _variables(template):
                form["ContentVariables"] = json.dumps(variables, ensure_ascii=False)
        else:
            return None
        return f"{self._account}/Messages.json", form

    async def _find(self, form: Mapping[str, str], began: datetime) -> str | None:
        """The SID of what Twilio took for this person since `began`, if it took it."""
        # Newest first. No date: what is queued still has no `date_sent`.
        query = {"To": form["To"], "PageSize": "50"}
        for wait in (1.0, 4.0):
            await self.clock.sleep(wait)
            try:
                payload = (await self.http.get(f"{self._account}/Messages.json", query)).json()
            except HttpFault:
                continue
            listed = payload.get("messages") if isinstance(payload, dict) else None
            for item in listed if isinstance(listed, list) else ():
                if not isinstance(item, dict) or item.get("sid") in self._known:
                    continue
                if _is_it(item, form, began):
                    return str(item["sid"])
        return None

    def message_id(self, told: Mapping[str, Any]) -> str | None:
        return told.get("sid")

    def refusal(self, answer: Answer) -> Verdict | None:
        payload = answer.json()
        fields: Mapping[str, Any] = payload if isinstance(payload, dict) else {}
        code = fields.get("code") or fields.get("error_code")
        if not isinstance(code, int):
            return None
        told = self.http.scrub(str(fields.get("message") or f"HTTP {answer.status}"))[:300]
        return verdict_of(code, told, answer.status)

    async def check(self) -> Health:
        try:
            answer = await self.http.get(f"{self._account}.json")
        except HttpFault as exc:
            return self.unreachable(exc)
        payload = answer.json()
        word = str(payload.get("status")) if isinstance(payload, dict) else "unknown"
        if answer.status in (401, 403):
            problem = "Twilio refuses the token. Compare account_sid and auth_token."
            return Health(ok=False, status="TOKEN", problems=(problem,))
        if answer.status != 200 or word != "active":
            problem = f"the Twilio account is {word}. Look at it in the console."
            return Health(ok=False, status=word.upper(), problems=(problem,))
        return Health(ok=True, status="CONNECTED")

    async def templates(self) -> list[dict[str, Any]]:
        raise Refused(
            "Twilio's content is named by its SID, there is nothing to sync",
            hint="--message FILE.yaml with a template called HX...",
        )

    def decode(self, body: bytes) -> dict[str, Any]:
        """Twilio posts forms."""
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        sid = payload.get("MessageSid") or payload.get("SmsSid")
        if not isinstance(sid, str):
            return []
        to, sender = payload.get("To"), payload.get("From")
        word = str(payload.get("MessageStatus", "")).lower()
        if word not in ("", "received", "receiving"):
            status = _STATUSES.get(word)
            if status is None:
                return []
            error = None
            if status is Status.FAILED:
                code = str(payload.get("ErrorCode") or "0")
                told = str(payload.get("ChannelStatusMessage") or word)
                known = code.isascii() and code.isdecimal() and len(code) < 10
                error = _failure(int(code) if known else 0, told)
            return [Receipt(sid, status, None, person=_person(to), error=error)]
        tapped = payload.get("ButtonPayload") or payload.get("ButtonText")
        media = str(payload.get("NumMedia") or "0") != "0"
        return [
            Inbound(
                sid,
                _person(sender, payload.get("ExternalUserId")),
                None,
                "button" if tapped else "media" if media else "text",
                text=str(payload.get("ButtonText") or payload.get("Body") or ""),
                payload=str(payload.get("ButtonPayload") or ""),
                context_id=payload.get("OriginalRepliedMessageSid"),
                name=str(payload.get("ProfileName") or ""),
            )
        ]

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """`X-Twilio-Signature`: base64 HMAC-SHA1 of the URL and the sorted form."""
        given = {key.lower(): value for key, value in headers.items()}
        form = sorted(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        signature = given.get("x-twilio-signature", "").encode()
        said = "".join(key + value for key, value in form)
        urls = {self.settings.get("webhook_url"), self.settings.get("status_callback")} - {""}
        return any(self._signed(url + said, signature) for url in urls)

    def _signed(self, text: str, signature: bytes) -> bool:
        made = hmac.new(self.secrets["auth_token"].encode(), text.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(base64.b64encode(made), signature)


def verdict_of(code: int, told: str, status: int = 400) -> Verdict:
    """What one of Twilio's codes means; unknown ones as their HTTP status says."""
    word = str(code)
    if code in _THROTTLED or status == 429:
        return Deferred(word, told, scope=_ACCOUNT)
    if code in _TRANSIENT:
        return Deferred(word, told)
    if code in _STOPPED:
        return Rejected(word, told, opt_out=True)
    if code in _GONE:
        return Rejected(word, told)
    if code in _TEMPLATE:
        return Halted(word, told, _CAMPAIGN)
    if code in _WRONG:
        return Rejected(word, told, scope=_MESSAGE)
    if code in _LOCKED or status in (401, 403, 404, 405):
        return Halted(word, told)
    if status < 500:
        return Rejected(word, told, scope=_MESSAGE)
    return Lost(told, word)


def _failure(code: int, told: str) -> Deferred | Rejected | Halted:
    """The same for what is told later: there it did go, so nothing is in doubt."""
    verdict = verdict_of(code, told)
    if isinstance(verdict, Deferred | Halted):
        return verdict
    if isinstance(verdict, Rejected):
        known = _STOPPED | _GONE | _WRONG
        return verdict if code in known else Rejected(str(code), told)
    return Rejected(str(code), told)


def _variables(template: Mapping[str, Any]) -> dict[str, str]:
    """The body's parameters by position, or by name."""
    found: dict[str, str] = {}
    for component in template.get("components") or ():
        if isinstance(component, dict) and component.get("type") == "body":
            for place, item in enumerate(component.get("parameters") or (), 1):
                found[str(item.get("parameter_name") or place)] = str(item.get("text", ""))
    return found


def _is_it(item: Mapping[str, Any], form: Mapping[str, str], began: datetime) -> bool:
    """Whether a listed message is the one whose answer was lost."""
    if not isinstance(item.get("sid"), str) or item.get("to") != form["To"]:
        return False
    if "Body" in form and item.get("body") != form["Body"]:
        return False
    try:
        made = datetime.strptime(str(item.get("date_created")), "%a, %d %b %Y %H:%M:%S %z")
    except ValueError:
        return False
    return (made.astimezone(UTC) - began).total_seconds() >= -2


def _number(name: str) -> str:
    return name.removeprefix("whatsapp:")


def _person(*names: object) -> Person:
    return person(*(_number(str(name)) for name in names if name))
