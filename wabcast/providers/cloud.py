"""The WhatsApp Cloud API (PROVIDERS 1 to 4).

What a reader must not break: `send` makes one request and never repeats it, because the Cloud
API has no idempotency key: the ledger owns the retries. Reads and uploads may be repeated.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, ParamSpec, TypeVar
from urllib.parse import quote

from tenacity import (
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from wabcast.delivery import Accepted, Deferred, Halted, Lost, Rejected, Scope, Verdict
from wabcast.errors import Refused, UsageError, WabcastError
from wabcast.message import Message, encode
from wabcast.providers import cloud_codes, cloud_health, cloud_webhooks
from wabcast.providers.base import Health, Settings, missing
from wabcast.providers.http import (
    TIMEOUT,
    Answer,
    AsyncBaseTransport,
    Http,
    HttpFault,
    Unsent,
    Unsure,
    base_url,
)
from wabcast.receipts import News

_P = ParamSpec("_P")
_T = TypeVar("_T")

_TEMPLATE_FIELDS = (
    "id,name,language,status,category,parameter_format,components,quality_score,rejected_reason"
)
_ENDPOINTS = ("messages", "marketing_messages")
_VERSION = re.compile(r"v\d{1,3}\.\d{1,2}")
_ID = re.compile(r"\d{1,32}")


def _repeated(ask: Callable[_P, Awaitable[_T]]) -> Callable[_P, Awaitable[_T]]:
    """For what may be repeated freely: reads and uploads."""
    return retry(
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=0.2, max=5) + wait_random(0, 0.1),
        retry=retry_if_exception_type(HttpFault),
        reraise=True,
    )(ask)


class CloudProvider:
    """A number of the Cloud API. Opens nothing until it is asked; belongs to one event loop.

    `transport` is httpx's seam: the sandbox and tests sit there. `timeout` bounds each request
    as a whole, in seconds.
    """

    name: ClassVar[str] = "cloud"
    needed_settings: ClassVar[tuple[str, ...]] = ("phone_number_id",)
    optional_settings: ClassVar[tuple[str, ...]] = (
        "waba_id",
        "api_version",
        "base_url",
        "endpoint",
        "appsecret_proof",
    )
    needed_secrets: ClassVar[tuple[str, ...]] = ("token",)
    optional_secrets: ClassVar[tuple[str, ...]] = ("app_secret", "verify_token")
    default_rate: ClassVar[str | None] = "80/s"
    transient_codes: ClassVar[frozenset[str]] = cloud_codes.TRANSIENT
    leave_alone: ClassVar[Mapping[str, timedelta]] = cloud_codes.LEAVE_ALONE

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str],
        *,
        concurrency: int = 10,
        timeout: float = TIMEOUT,  # one bound for all requests
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        CloudProvider.validate(settings.values)  # a subclass has settings of its own
        if lacking := missing(CloudProvider.needed_secrets, secrets):
            raise UsageError(
                f"account {settings.account!r} lacks the secret {lacking[0]!r}",
                hint=f"account edit {settings.account} --secret {lacking[0]}=env:VARIABLE",
            )
        token = secrets["token"].strip()
        if not token.isascii() or not token.isprintable() or " " in token:
            raise UsageError(
                f"the token of account {settings.account!r} holds a character that no token has",
                hint="look for a line break or a quotation mark where it is kept",
            )
        self._app_secret = secrets.get("app_secret", "").strip()
        self._verify_token = secrets.get("verify_token", "").strip()
        self._settings = settings
        self._proof = self._prove(token)
        self._http = Http(
            settings.get("base_url", "https://graph.facebook.com"),
            {"authorization": f"Bearer {token}", "accept": "application/json"},
            concurrency=concurrency,
            timeout=timeout,
            transport=transport,
            secrets=(token, self._app_secret, *self._proof.values()),
        )
        self._version = settings.get("api_version", "v25.0")
        self._number = f"{self._version}/{settings.get('phone_number_id')}"
        self._messages = self._path(f"{self._number}/{settings.get('endpoint', 'messages')}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.account!r}, {self._http.base!r})"

    @classmethod
    def validate(cls, values: Mapping[str, str]) -> None:
        if lacking := missing(cls.needed_settings, values):
            option = f"--{lacking[0].replace('_', '-')}"
            raise UsageError(f"a {cls.name} account needs {option}", hint="see account add --help")
        unknown = sorted(set(values) - {*cls.needed_settings, *cls.optional_settings})
        if unknown:
            raise UsageError(
                f"a {cls.name} account has no setting {unknown[0]!r}",
                hint=f"it has {', '.join((*cls.needed_settings, *cls.optional_settings))}",
            )
        for key in ("phone_number_id", "waba_id"):
            if values.get(key) and not _ID.fullmatch(values[key]):
                raise UsageError(
                    f"{key} is a number without plus or spaces, not {values[key]!r}",
                    hint="copy it from the app's API setup; it is not the phone number itself",
                )
        if values.get("api_version") and not _VERSION.fullmatch(values["api_version"]):
            raise UsageError(f"not a version: {values['api_version']!r}", hint="as in v25.0")
        if values.get("endpoint", "messages") not in _ENDPOINTS:
            raise UsageError(
                f"no endpoint {values['endpoint']!r}", hint=f"one of {', '.join(_ENDPOINTS)}"
            )
        if values.get("appsecret_proof", "no") not in {"yes", "no"}:
            raise UsageError("appsecret_proof is yes or no", hint="yes needs --app-secret too")
        if values.get("base_url"):
            base_url(values["base_url"])

    async def send(self, message: Message) -> Verdict:
        """One POST, one verdict. A ref longer than 512 characters would be refused by Meta."""
        body = message.json or encode(message.body)
        content = (
            '{"messaging_product":"whatsapp","recipient_type":"individual","to":'
            # Without the plus Meta puts the country code of the business in front (PROVIDERS 1.2).
            f"{encode(message.to)},{body[1:-1]},"
            f'"biz_opaque_callback_data":{encode(message.ref)}}}'
        )
        try:
            answer = await self._http.post(self._messages, content.encode(), "application/json")
        except Unsent as exc:
            return Deferred("connect", str(exc), scope=Scope.ACCOUNT)
        except Unsure as exc:
            return Lost(str(exc), "no_answer")
        return self._clean(cloud_codes.verdict(answer.status, answer.json(), answer.headers))

    async def check(self) -> Health:
        """Status, quality, throughput, tier and health of the number (PROVIDERS 4), and whether
        an app is subscribed to its webhooks, where `waba_id` is known."""
        fields: tuple[str, ...] = cloud_health.FIELDS
        try:
            answer = await self._get(self._number, {"fields": ",".join(fields)})
            if cloud_health.field_unknown(answer.status, answer.json()):
                fields = cloud_health.FIELDS_OF_ALL_VERSIONS
                answer = await self._get(self._number, {"fields": ",".join(fields)})
            if answer.status != 200:
                return cloud_health.refused(self._refusal(answer))
            apps: object = None
            if waba := self._settings.get("waba_id"):
                apps = (await self._get(f"{self._version}/{waba}/subscribed_apps", {})).json()
        except HttpFault as exc:
            return cloud_health.unreachable(self._http.base, str(exc))
        return cloud_health.read(answer.json(), apps)

    async def templates(self) -> list[dict[str, Any]]:
        """Every template of the WABA, page by page, as PROVIDERS 4 shows them."""
        waba = self._settings.get("waba_id")
        if not waba:
            raise Refused(
                f"account {self._settings.account!r} has no waba_id, templates belong to one",
                hint=f"account edit {self._settings.account} --waba-id ID",
            )
        found: list[dict[str, Any]] = []
        query = {"fields": _TEMPLATE_FIELDS, "limit": "100"}
        for _ in range(100):  # 6,000 templates are the most a WABA may have
            page = await self._read(f"{self._version}/{waba}/message_templates", query)
            found += [item for item in page.get("data") or () if isinstance(item, dict)]
            paging = page.get("paging") or {}
            after = (paging.get("cursors") or {}).get("after")
            # The cursor, not the `next` URL: that names a host and may hold a token.
            if not paging.get("next") or not isinstance(after, str) or query.get("after") == after:
                break
            query["after"] = after
        return found

    async def upload(self, file_name: str, mime: str, content: bytes) -> str:
        """Upload a medium; its id, good for 30 days."""
        fields = {"messaging_product": "whatsapp", "type": mime}
        body, content_type = _multipart(fields, file_name, mime, content)
        try:
            answer = await self._post_again(self._path(f"{self._number}/media"), body, content_type)
        except HttpFault as exc:
            raise WabcastError(f"cannot upload {file_name}: {exc}", hint="try again") from exc
        payload = answer.json()
        media_id = payload.get("id") if isinstance(payload, dict) else None
        if answer.status not in {200, 201} or not isinstance(media_id, str) or not media_id:
            refusal = self._refusal(answer)
            raise Refused(
                f"WhatsApp does not take {file_name}: {refusal.reason}",
                hint=cloud_codes.advice(refusal.code),
            )
        return media_id

    def parse(self, payload: Mapping[str, Any]) -> list[News]:
        return cloud_webhooks.parse(payload)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Without an app secret nothing is genuine."""
        if not self._app_secret:
            return False
        signature = next(
            (text for key, text in headers.items() if key.lower() == "x-hub-signature-256"), ""
        )
        return cloud_webhooks.signed(self._app_secret, signature, body)

    def challenge(self, query: Mapping[str, str]) -> str | None:
        token = query.get("hub.verify_token", "")
        if not self._verify_token or query.get("hub.mode") != "subscribe":
            return None
        if not hmac.compare_digest(token.encode(), self._verify_token.encode()):
            return None
        return query.get("hub.challenge")

    async def aclose(self) -> None:
        await self._http.aclose()

    def _prove(self, token: str) -> dict[str, str]:
        if self._settings.get("appsecret_proof", "no") == "no":
            return {}
        if not self._app_secret:
            raise UsageError(
                f"account {self._settings.account!r} wants an appsecret_proof without a secret",
                hint=f"account edit {self._settings.account} --app-secret env:VARIABLE",
            )
        proof = hmac.new(self._app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()
        return {"appsecret_proof": proof}

    def _path(self, path: str) -> str:
        return f"{path}?appsecret_proof={self._proof['appsecret_proof']}" if self._proof else path

    def _clean(self, verdict: Verdict) -> Verdict:
        """Meta quotes a malformed token in its message."""
        match verdict:
            case Accepted():
                return verdict
            case Deferred(code, reason, after, scope):
                return Deferred(code, self._http.scrub(reason), after, scope)
            case Rejected(code, reason, scope, opt_out, halt_after):
                return Rejected(code, self._http.scrub(reason), scope, opt_out, halt_after)
            case Halted(code, reason, scope):
                return Halted(code, self._http.scrub(reason), scope)
            case Lost(reason, code):
                return Lost(self._http.scrub(reason), code)

    def _refusal(self, answer: Answer) -> Deferred | Rejected | Halted | Lost:
        verdict = self._clean(cloud_codes.verdict(answer.status, answer.json(), answer.headers))
        if isinstance(verdict, Accepted):
            return Lost(f"HTTP {answer.status} with another kind of answer")
        return verdict

    @_repeated
    async def _get(self, path: str, query: Mapping[str, str]) -> Answer:
        return await self._http.get(path, {**query, **self._proof})

    @_repeated
    async def _post_again(self, path: str, content: bytes, content_type: str) -> Answer:
        return await self._http.post(path, content, content_type)

    async def _read(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            answer = await self._get(path, query)
        except HttpFault as exc:
            raise WabcastError(f"cannot ask {self._http.base}: {exc}", hint="try again") from exc
        payload = answer.json()
        if answer.status == 200 and isinstance(payload, dict):
            return payload
        refusal = self._refusal(answer)
        raise Refused(refusal.reason, hint=cloud_codes.advice(refusal.code))


def _multipart(
    fields: Mapping[str, str], file_name: str, mime: str, content: bytes
) -> tuple[bytes, str]:
    boundary = "wabcast-" + hashlib.sha256(content).hexdigest()[:32]
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n'
        for key, text in fields.items()
    ]
    name = quote(file_name, safe=" !#$&+-.()[]{}=@^_`~,;'") or "file"
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {mime}\r\n\r\n"
    )
    body = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
