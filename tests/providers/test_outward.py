from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast.errors import Refused, UsageError
from wabcast.providers.http import Unsent
from wabcast.providers.outward import Line, Target, addresses, is_public
from wabcast.testing import answers, play

INSIDE = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
    *("::/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32"),
]


@given(st.sampled_from(INSIDE).flatmap(lambda net: st.ip_addresses(network=net)))
def test_no_address_inside_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(str(address))


@given(st.sampled_from(INSIDE[:10]).flatmap(lambda net: st.ip_addresses(v=4, network=net)))
def test_nor_in_the_disguise_of_another(address: IPv4Address) -> None:
    number = int(address)
    for disguise in (
        f"::ffff:{address}",
        str(IPv6Address((0x64FF9B << 96) | number)),
        str(IPv6Address((0x2002 << 112) | (number << 80))),
        f"::{address}",
    ):
        assert not is_public(disguise), disguise


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_the_open_internet_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["", "fe80::1%eth0", "nonsense", "127.1"])
def test_what_is_no_address_is_not(address: str) -> None:
    assert not is_public(address)


def test_a_url_in_parts() -> None:
    target = Target.parse("https://Bücher.example/a/b?c=d%20e", allow_private=False)
    assert target.base == "https://xn--bcher-kva.example:443"
    assert (target.host, target.port, target.plain) == ("xn--bcher-kva.example", 443, False)
    assert target.path == "a/b?c=d%20e"
    assert Target.parse("http://[::1]:81", allow_private=True).base == "http://[::1]:81"


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ftp://example.com", UsageError),
        ("https://", UsageError),
        ("example.com", UsageError),
        ("https://example.com:99999", UsageError),
        ("https://exa mple.com", UsageError),
        ("https://example.com/\r\nX: y", UsageError),
        ("https://example.com\\@127.0.0.1/", UsageError),
        ("https://user:sesame@example.com", UsageError),
        ("https://example.com/#part", UsageError),
        ("https://[::1", UsageError),
        ("http://example.com", Refused),
        ("https://127.0.0.1", Refused),
        ("https://[::1]/", Refused),
        ("https://[::ffff:10.0.0.1]/", Refused),
        ("https://169.254.169.254/latest/meta-data", Refused),
    ],
)
def test_a_url_that_will_not_do(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Target.parse(url, allow_private=False)
    assert "sesame" not in str(caught.value)


def test_plain_http_stays_inside() -> None:
    Target.parse("http://192.168.1.9/x", allow_private=True)
    with pytest.raises(Refused, match="open Internet"):
        Target.parse("http://1.1.1.1/x", allow_private=True)


@pytest.mark.parametrize(
    "found", [["10.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["2606:4700::1111", "::ffff:127.0.0.1"]]
)
async def test_one_address_inside_is_enough_to_refuse(found: list[str]) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return found

    target = Target.parse("https://example.com", allow_private=False)
    with pytest.raises(Refused, match="inside this machine"):
        await addresses(target, allow_private=False, resolve=resolve)
    assert await addresses(target, allow_private=True, resolve=resolve) == found


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "localhost", "017700000001"])
@pytest.mark.parametrize("dot", ["", "."])
async def test_loopback_by_any_spelling_is_refused(host: str, dot: str) -> None:
    with pytest.raises(Refused, match="inside this machine"):
        Target.parse(f"https://{host.upper().replace('X', 'x')}{dot}/", allow_private=False)
    target = Target.parse(f"https://{host}{dot}/", allow_private=True)
    with pytest.raises(Refused, match="inside this machine"):
        await addresses(target, allow_private=False)


@pytest.mark.parametrize("host", ["LOCALHOST.", "a.localhost", "printer.local", "db.Internal."])
def test_names_of_this_network_are_refused_before_they_are_asked(host: str) -> None:
    with pytest.raises(Refused, match="inside this machine"):
        Target.parse(f"https://{host}/", allow_private=False)
    assert Target.parse(f"https://{host}/", allow_private=True).host == host.lower().rstrip(".")
    assert Target.parse(f"https://{host.strip('.')}.example/", allow_private=False).port == 443


async def test_a_name_that_does_not_exist_is_unsent() -> None:
    with pytest.raises(Unsent, match=r"nowhere\.invalid"):
        await addresses(
            Target.parse("https://nowhere.invalid", allow_private=False), allow_private=False
        )


async def test_it_connects_where_it_is_told_and_says_the_name() -> None:
    async with play(answers(204, b"")) as played:
        port = played.base_url.rpartition(":")[2]
        target = Target.parse(f"http://nowhere.invalid:{port}/in?a=b", allow_private=True)
        line = Line(target)
        try:
            for _ in range(2):
                assert await line.post_to("127.0.0.1", target.path, b"{}", {"x-a": "b"}) == 204
        finally:
            await line.aclose()
    head = played.requests[0].decode()
    assert head.startswith("POST /in?a=b HTTP/1.1\r\n")
    assert f"host: nowhere.invalid:{port}\r\n" in head.lower()
    assert "x-a: b\r\n" in head.lower()
