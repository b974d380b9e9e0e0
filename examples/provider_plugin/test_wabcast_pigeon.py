"""The pigeon keeps what every provider must: `pytest` here, with pytest-asyncio installed."""

from wabcast_pigeon import PigeonProvider

from wabcast.delivery import Halted, Rejected
from wabcast.providers.base import Settings
from wabcast.testing import ProviderContract


class TestPigeon(ProviderContract):
    def make_provider(self, base_url, *, timeout):
        settings = Settings("test", {"base_url": base_url})
        return PigeonProvider(settings, {"token": self.secret}, timeout=timeout)

    def accepted_answer(self):
        return 200, b'{"ring": "DV-0815"}', "DV-0815"

    def refusals(self):
        yield 401, b"", Halted
        yield 410, b"", Rejected
