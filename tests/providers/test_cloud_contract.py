"""The Cloud API provider keeps the contract of all providers."""

from __future__ import annotations

import json

from wabcast.providers.base import Provider, Settings
from wabcast.providers.cloud import CloudProvider
from wabcast.testing import ProviderContract


class TestCloudContract(ProviderContract):
    def make_provider(self, base_url: str, *, timeout: float) -> Provider:
        values = {"base_url": base_url, "phone_number_id": "1", "waba_id": "2"}
        secrets = {"token": self.secret, "app_secret": "app-secret", "verify_token": "verify"}
        return CloudProvider(Settings("test", values), secrets, timeout=timeout)

    def accepted_answer(self) -> tuple[int, bytes, str]:
        return 200, json.dumps({"messages": [{"id": "wamid.1"}]}).encode(), "wamid.1"
