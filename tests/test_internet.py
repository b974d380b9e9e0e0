"""docs/internet.md: the proxies of Debian before `serve`, with the very text of the page."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served import Served
from storm import Field, field_of

from wabcast.connection_limits import MIB, Limits
from wabcast.receiver import LARGEST
from wabcast.server import idempotency, rest_contacts

pytestmark = pytest.mark.timeout(180)

PAGE = (Path(__file__).parents[1] / "docs" / "internet.md").read_text(encoding="utf-8")
SECRET = "shh-this-signs"

NGINX = """
{user}
daemon off;
pid {home}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    {block}
}}
"""


def block(kind: str) -> str:
    found = re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def caddy(home: Path, upstream: str, port: int) -> list[str]:
    text = block("caddyfile").replace("wabcast.example.com", f"http://127.0.0.1:{port}")
    assert "127.0.0.1:8080" in text
    text = text.replace("127.0.0.1:8080", upstream).replace("{\n", "{\n\tadmin off\n", 1)
    (home / "Caddyfile").write_text(text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(home / "Caddyfile")]


def nginx(home: Path, upstream: str, port: int) -> list[str]:
    text = block("nginx").replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    text = re.sub(r"(?m)^ +ssl_certificate.*\n", "", text)
    assert "127.0.0.1:8080" in text
    text = text.replace("127.0.0.1:8080", upstream)
    user = "user root;" if os.geteuid() == 0 else ""  # its workers write below `home`
    (home / "nginx.conf").write_text(NGINX.format(home=home, block=text, user=user))
    return ["nginx", "-p", str(home), "-c", str(home / "nginx.conf")]


class Behind:
    """A server with an admin's token, and a proxy before it."""

    def __init__(self, place: Field, served: Served, host: str, port: int) -> None:
        self.place = place
        self.served = served
        self.address = (host, port)
        self.http = httpx.Client(
            base_url=f"http://{host}:{port}",
            headers={"authorization": f"Bearer {served.token}"},
            trust_env=False,
            timeout=30,
        )

    def webhook(self, id_: str, size: int = 0) -> int:
        message = {"from": "4917600000001", "id": id_, "timestamp": "1793872900", "type": "text"}
        change = {"field": "messages", "value": {"messages": [message], "pad": "x" * size}}
        body = json.dumps({"entry": [{"changes": [change]}]}).encode()
        sign = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        head = {"x-hub-signature-256": f"sha256={sign}"}
        return self.http.post("/webhooks/shop", content=body, headers=head).status_code


@pytest.fixture(params=[caddy, nginx], ids=["Caddy", "nginx"])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Behind]:
    make = request.param
    if shutil.which(make.__name__) is None:
        pytest.skip(f"{make.__name__} is not installed")
    with field_of(tmp_path) as place, socket.socket() as free:
        place.env["WABCAST_TEST_SECRET"] = SECRET
        place.campaign(1)
        place.run("account", "edit", "shop", "--app-secret", "env:WABCAST_TEST_SECRET")
        served = Served(place, "--no-runner")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        log = (tmp_path / "proxy.log").open("wb")
        proxy = subprocess.Popen(
            make(tmp_path, served.url.removeprefix("http://"), port),
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            stdout=log,
            stderr=log,
        )
        log.close()
        place.processes.append(proxy)  # type: ignore[arg-type]  # ended with the others
        behind = Behind(place, served, "127.0.0.1", port)
        for _ in range(400):
            assert proxy.poll() is None, (tmp_path / "proxy.log").read_text()
            with socket.socket() as knock:
                if knock.connect_ex(behind.address) == 0:
                    break
            time.sleep(0.05)
        yield behind
        behind.http.close()


def test_all_parts_work_behind_the_proxy(behind: Behind) -> None:
    http = behind.http
    assert http.get("/healthz").json()["ok"] is True
    assert [behind.webhook(f"in.{number}") for number in range(40)] == [200] * 40
    assert http.get("/api/v1/campaigns").json()["data"]["items"][0]["name"] == "storm"
    assert http.get("/api/v1/contacts", headers={"authorization": ""}).status_code == 401
    login = http.post(
        "/login",
        data={"token": behind.served.token},
        headers={"x-forwarded-proto": "https", "sec-fetch-site": "same-origin"},
    )
    assert login.status_code == 303
    people = "phone\n" + "".join(f"+49151{number:08}\n" for number in range(12_000_000, 12_200_000))
    assert len(people) > LARGEST // 2
    with httpx.Client(timeout=60, trust_env=False) as plain:
        taken = plain.post(
            f"{http.base_url}/api/v1/contacts/import".replace("//api", "/api"),
            files={"file": ("people.csv", people[: 2 * MIB])},
            headers={"authorization": http.headers["authorization"]},
        )
    assert taken.status_code == 200, taken.text


def test_what_happens_is_told_through_the_proxy_at_once(behind: Behind) -> None:
    with behind.http.stream("GET", "/api/v1/events/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        behind.place.run("campaign", "duplicate", "storm")
        assert "event: campaign:created" in next(line for line in lines if "event:" in line)
    upgrade = (
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(behind.address, timeout=20) as line:
        line.sendall(upgrade.encode())
        assert b" 101 " in line.recv(4096)


def test_what_is_too_large_is_refused(behind: Behind) -> None:
    assert behind.webhook("large", 2_000_000) == 200
    assert behind.webhook("larger", 3_300_000) in (413, 502)  # Caddy 2.6 says the latter
    large = {"x-large": "a" * 70_000}
    assert behind.http.get("/healthz", headers=large).status_code in (400, 431)


def test_half_requests_at_the_proxy_keep_nobody_out(behind: Behind) -> None:
    crowd = []
    for number in range(200):
        line = socket.create_connection(behind.address, timeout=20)
        half = b"POST /webhooks/shop HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000\r\n\r\na"
        line.sendall(half if number % 2 else half[:30])
        crowd.append(line)
    try:
        assert [behind.webhook(f"beside.{number}") for number in range(20)] == [200] * 20
    finally:
        for line in crowd:
            line.close()


def test_the_page_s_numbers_are_those_of_the_program() -> None:
    limits = Limits()
    table = PAGE.split("## Who limits what", 1)[1]
    own = {
        cells[1].strip(): cells[3]
        for cells in (line.split("|") for line in table.splitlines() if line.startswith("| "))
    }
    said = {
        "headers": f"{limits.header_bytes // 1024} KiB and {limits.header_count} of them",
        "time for the headers": f"{limits.header_seconds:g} s",
        "time for a body": f"{limits.body_seconds:g} s, and a second more for each "
        f"{limits.body_rate // 1024} KiB that came; {limits.request_seconds / 60:g} minutes",
        "size of a webhook": f"{LARGEST // MIB} MiB",
        "size of a REST body, of an upload": f"{idempotency.LARGEST // MIB} MiB, "
        f"{rest_contacts.LARGEST // MIB} MiB",
        "unfinished requests together": f"{limits.bytes_in_flight // MIB} MiB",
        "connections": f"{limits.connections:,}, or",
        "answers that nobody reads": f"{limits.unread_seconds:g} s",
        "idle connections": f"{limits.idle_seconds} s",
    }
    for what, number in said.items():
        assert number in own[what], what
