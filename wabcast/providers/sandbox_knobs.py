"""How the sandbox behaves, and what its number says of itself. Turned while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wabcast.providers.sandbox_fates import STORMS

PHONE_NUMBER_ID = "106540352242922"
WABA_ID = "102290129340398"
APP_SECRET = "sandbox"  # noqa: S105  # of a WhatsApp that is played
LONGEST_SILENCE = 300
"""Seconds after which even a request that is never answered is let go."""


@dataclass(slots=True)
class Knobs:
    """How the sandbox behaves. Control requests turn them while it runs.

    `token` None takes any but an empty one. `latency` and `silence` in seconds; `rate` in sends
    a second, beyond which it throttles; `faults` a probability for each of `STORMS`.
    `any_ids`: whatever number and account are asked for are ours.
    """

    phone_number_id: str = PHONE_NUMBER_ID
    waba_id: str = WABA_ID
    any_ids: bool = False
    token: str | None = None
    app_secret: str = APP_SECRET
    latency: float = 0.0
    rate: float | None = None
    faults: Mapping[str, float] = field(default_factory=dict)
    receipt_scale: float = 1.0
    log_limit: int = 200_000
    silence: float = LONGEST_SILENCE
    token_dead: bool = False
    down: bool = False
    throttled: bool = False
    status: str = "CONNECTED"
    quality: str = "GREEN"
    can_send: str = "AVAILABLE"
    tier: str = "TIER_UNLIMITED"
    throughput: str = "STANDARD"
    subscribed: bool = True

    def turn(self, wanted: object) -> str | None:
        """Turn the knobs that `wanted` names, all or none; what is wrong with it, or None."""
        if not isinstance(wanted, dict):
            return "the knobs are a JSON object"
        for key, value in wanted.items():
            if key not in _TURNABLE or type(value) not in _TURNABLE[key]:
                return f"no such knob, or not its kind of value: {key}"
            if key == "faults" and not set(value) <= set(STORMS):
                return f"faults are {', '.join(STORMS)}"
        for key, value in wanted.items():
            setattr(self, key, value)
        return None

    def turned(self) -> dict[str, Any]:
        """The knobs that can be turned, as they stand."""
        return {key: getattr(self, key) for key in _TURNABLE}

    def is_number(self, word: str) -> bool:
        return word == self.phone_number_id or (self.any_ids and word.isdecimal())

    def is_account(self, word: str) -> bool:
        return word == self.waba_id or (self.any_ids and word.isdecimal())

    def number(self, fields: str) -> dict[str, Any]:
        """The number as `?fields=` asks for it; without, the four that Meta tells (PROVIDERS 4)."""
        health: list[dict[str, Any]] = [
            {
                "entity_type": "PHONE_NUMBER",
                "id": self.phone_number_id,
                "can_send_message": self.can_send,
            },
            {"entity_type": "WABA", "id": self.waba_id, "can_send_message": "AVAILABLE"},
        ]
        if self.can_send != "AVAILABLE":
            health[0]["errors"] = [
                {
                    "error_code": 141006,
                    "error_description": "There is an error with your payment method.",
                    "possible_solution": "Add a payment method.",
                }
            ]
        everything: dict[str, Any] = {
            "id": self.phone_number_id,
            "display_phone_number": "+1 555-078-3881",
            "verified_name": "The wabcast sandbox",
            "quality_rating": self.quality,
            "status": self.status,
            "throughput": {"level": self.throughput},
            "whatsapp_business_manager_messaging_limit": self.tier,
            "name_status": "APPROVED",
            "code_verification_status": "VERIFIED",
            "platform_type": "CLOUD_API",
            "account_mode": "SANDBOX",
            "is_on_biz_app": False,
            "health_status": {"can_send_message": self.can_send, "entities": health},
        }
        wanted = fields.split(",") if fields else list(everything)[:4]
        return {key: everything[key] for key in everything if key in wanted or key == "id"}


_TURNABLE = {
    "latency": (int, float),
    "rate": (int, float, type(None)),
    "faults": (dict,),
    "token_dead": (bool,),
    "down": (bool,),
    "throttled": (bool,),
    "status": (str,),
    "quality": (str,),
    "can_send": (str,),
    "tier": (str,),
    "throughput": (str,),
    "subscribed": (bool,),
}
