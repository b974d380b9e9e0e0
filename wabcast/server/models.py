"""What is asked and answered over HTTP, in pydantic: the OpenAPI document is made of this.

What must not break: a key that was answered once keeps its name and its meaning within /api/v1.
Bodies refuse keys they do not know; answers may gain keys.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

T = TypeVar("T")


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds the character NUL")
    return value


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what JSON text and SQLite cannot hold, however deep it stands."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except UnicodeError:
        raise ValueError("holds a lone surrogate") from None
    if "\\u0000" in text:
        raise ValueError("holds the character NUL")
    return value


Text = Annotated[str, AfterValidator(_no_nul)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
Object = Annotated[dict[str, Any], AfterValidator(_plain)]
Phones = Annotated[list[Name], Field(min_length=1, max_length=10_000)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Told(BaseModel):
    model_config = ConfigDict(extra="allow")


class Answer(BaseModel, Generic[T]):
    """The seed's envelope."""

    success: Literal[True] = True
    message: str = "OK"
    data: T


class Page(BaseModel, Generic[T]):
    """`next` is the `cursor` of the page that follows; null after the last one."""

    items: list[T]
    next: str | None = None


class FieldFault(BaseModel):
    field: str
    message: str


class ProblemDetails(Told):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None
    errors: list[FieldFault] | None = None


class Failure(BaseModel):
    """The seed's envelope around what went wrong."""

    success: Literal[False] = False
    message: str
    data: ProblemDetails


# -- campaigns


class Move(BaseModel):
    id: str
    status: str
    scheduled_at: str | None


class Throttle(Asked):
    """The seed's words; milliseconds."""

    messagesPerMinute: Annotated[float, Field(gt=0, le=1_000_000)] | None = None  # noqa: N815
    batchSize: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # noqa: N815
    delayBetweenBatches: Annotated[int, Field(ge=0, le=86_400_000)] | None = None  # noqa: N815
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    jitter: Name | None = Field(None, description="10s, or 5s-15s")


class TemplateContent(Asked):
    name: Name
    language: Name | None = Field(None, description="A code, or an expression of the contact's")
    params: dict[Name, Text] = {}


class Content(Asked):
    """What is said: one of the three. Holes may not loop, media are links or ids."""

    text: Annotated[Text, StringConstraints(min_length=1, max_length=16_384)] | None = None
    message: Object | None = Field(None, description="A Cloud API message object with holes")
    template: TemplateContent | None = None

    @model_validator(mode="after")
    def _one(self) -> Content:
        if sum(part is not None for part in (self.text, self.message, self.template)) != 1:
            raise ValueError("one of text, message and template")
        return self


class AudienceAsked(Asked):
    """Whom: opted-out and blocked contacts are never chosen."""

    kind: Literal["all", "tags", "segment", "where", "phones"]
    tags: list[Name] = []
    segment: Text = ""
    where: Annotated[Text, StringConstraints(max_length=10_000)] = ""
    phones: Annotated[list[Name], Field(max_length=10_000)] = []
    exclude_tags: list[Name] = []
    exclude_phones: Annotated[list[Name], Field(max_length=10_000)] = []

    @model_validator(mode="after")
    def _said(self) -> AudienceAsked:
        for kind in ("tags", "segment", "where", "phones"):
            if bool(getattr(self, kind)) != (self.kind == kind):
                raise ValueError(f"an audience of kind {self.kind} has no other's words")
        return self


class CampaignChange(Asked):
    """What is not named stays."""

    name: Name | None = None
    account: Name | None = None
    content: Content | None = None
    audience: AudienceAsked | None = None
    variables: dict[Name, Text] | None = None
    missing: Literal["refuse", "skip", "blank"] | None = None
    rate: Name | None = Field(None, description="20/m, 80/s, 1000/h, max")
    throttle: Throttle | None = None
    priority: Literal["high", "normal", "low"] | None = None
    windows: Name | None = Field(None, description="09:00-20:00")
    recipient_timezone: bool | None = None
    timezone: Name | None = None
    not_after: AwareDatetime | None = None
    canary: Name | None = Field(None, description="50, 15m, failed > 5%")
    description: Annotated[Text, StringConstraints(max_length=10_000)] | None = None


class CampaignAsked(CampaignChange):
    name: Name
    account: Name
    content: Content
    audience: AudienceAsked
    scheduled_at: AwareDatetime | None = Field(None, description="Needs campaigns:start too")


class ScheduleAsked(Asked):
    at: AwareDatetime
    repeat: Name | None = Field(None, description="An RRULE, or cron:0 9 * * 1")
    if_missed: Literal["auto", "run", "skip"] = "auto"
    timezone: Name = Field("UTC", description="The clock that `repeat` goes by")


class DuplicateAsked(Asked):
    name: Name | None = None


class RetryAsked(Asked):
    """Without `class`: what failed for a passing reason, or all of the named phones and codes."""

    kind: Literal["transient", "all"] | None = Field(None, alias="class")
    phones: list[str] = []
    codes: list[str] = []


class SettleAsked(Asked):
    outcome: Literal["sent", "failed", "pending"] = Field(alias="as")
    phones: list[str] = []
    codes: list[str] = []


class Changed(BaseModel):
    changed: int
    campaign: CampaignTold


class CampaignTold(Told):
    id: str
    name: str
    description: str | None
    status: str
    account: str
    total_recipients: int
    pending: int
    queued: int
    messages_sent: int
    messages_delivered: int
    messages_read: int
    messages_replied: int
    messages_failed: int
    in_doubt: int
    skipped: int
    delivery_rate: float | None
    read_rate: float | None
    reply_rate: float | None
    failure_rate: float | None
    progress: float
    priority: str
    throttle: dict[str, Any]
    scheduled_at: str | None
    started_at: str | None
    paused_at: str | None
    completed_at: str | None
    reason: str | None
    created_at: str
    updated_at: str


class Recipient(BaseModel):
    phone: str | None = Field(description="null: the person was erased")
    first_name: str | None
    last_name: str | None
    name: str | None
    email: str | None
    company: str | None
    status: str
    attempts: int
    whatsapp_message_id: str | None
    error_code: str | None
    error_message: str | None
    queued_at: str | None
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    failed_at: str | None
    replied_at: str | None


class Preview(Told):
    phone: str
    text: str | None = None
    error: str | None = None


# -- people


class ContactTold(Told):
    phone: str
    name: str | None
    attributes: dict[str, str]
    tags: list[str]
    opted_out_at: str | None
    blocked_at: str | None


class ContactAsked(Asked):
    phone: Name
    region: Name | None = Field(None, description="The country of a number without a code")
    fields: dict[Name, Text] = Field({}, description="first_name, email, ... and attributes")
    tags: list[Name] = []


class ContactChange(Asked):
    fields: dict[Name, Text] = Field(description="An empty value erases")


class PhonesAsked(Asked):
    phones: Phones
    region: Name | None = None


class OptOutAsked(PhonesAsked):
    reason: Name = "over HTTP"


class TagsAsked(PhonesAsked):
    tags: Annotated[list[Name], Field(min_length=1, max_length=100)]


class Turned(BaseModel):
    """Of the numbers given: how many changed, were so already, and are nobody's here."""

    changed: int
    already: int = 0
    unknown: int = 0


class Removed(BaseModel):
    removed: int
    skipped: int = 0


class Reject(BaseModel):
    line: int
    reason: str


class Imported(BaseModel):
    """`rejects` are the first 100 rows that could not be used."""

    read: int
    inserted: int
    updated: int
    unchanged: int
    duplicates: int
    rejected: int
    rejects: list[Reject]
    notes: list[str]


class SegmentAsked(Asked):
    name: Name
    expression: Annotated[Text, StringConstraints(min_length=1, max_length=10_000)]


class SegmentTold(Told):
    name: str
    expression: str
    created_at: str
    count: int | None = None


# -- templates, accounts, events


class TemplateAsked(Asked):
    name: Name
    text: Annotated[Text, StringConstraints(min_length=1, max_length=16_384)] | None = None
    message: Object | None = None
    description: Annotated[Text, StringConstraints(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _one(self) -> TemplateAsked:
        if (self.text is None) == (self.message is None):
            raise ValueError("one of text and message")
        return self


class TemplateTold(Told):
    name: str
    kind: str
    account: str | None
    language: str | None
    status: str
    category: str | None
    description: str | None
    body: dict[str, Any] | None = None


class AccountTold(BaseModel):
    """An account without its settings and its secrets."""

    name: str
    provider: str
    rate: str | None
    daily_cap: int | None
    ramp: str | None
    cooling_until: str | None
    cooling_reason: str | None
    halted_reason: str | None
    first_used_at: str | None
    created_at: str
    updated_at: str


Changed.model_rebuild()
