"""Messages by pigeon: POST BASE_URL/fly with a token, answered with the number of a ring."""

import hmac

from wabcast.delivery import Rejected
from wabcast.providers.plain import PlainProvider
from wabcast.receipts import Receipt, Status


class PigeonProvider(PlainProvider):
    name = "pigeon"
    signing_secrets = ("token",)
    default_rate = "1/s"
    default_daily_cap = 500
    carries = frozenset({"text"})
    health_path = "loft"

    def request(self, message):
        note = {"to": message.to, "note": message.body["text"]["body"], "ref": message.ref}
        return "fly", note

    def message_id(self, told):
        return told.get("ring")

    def refusal(self, answer):
        if answer.status == 410:
            return Rejected("410", "no pigeon flies there")
        return None  # as every other service: by its HTTP status

    def parse(self, payload):
        ring = payload.get("arrived")
        return [Receipt(ring, Status.DELIVERED, None)] if isinstance(ring, str) else []

    def verify(self, headers, body):
        given = {key.lower(): value for key, value in headers.items()}.get("x-loft", "")
        return hmac.compare_digest(given.encode(), self.secrets["token"].encode())
