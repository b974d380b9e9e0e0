"""What leaves is what PROVIDERS 1 shows, as JSON, for every kind of message.

The golden files are written by hand from those facts. Each is made into a campaign as a person
makes one, and sent by the installed command to a WhatsApp that refuses what Meta would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from conftest import Ran
from gateways import Asked, Played, Told, served

from wabcast.media import media_type
from wabcast.providers.sandbox_app import Sandbox
from wabcast.providers.sandbox_knobs import PHONE_NUMBER_ID, WABA_ID, Knobs
from wabcast.providers.sandbox_serve import serve

Cli = Callable[..., Ran]
FILES = sorted((Path(__file__).parent / "golden").glob("*.json"))
MEDIA = ("1339522734477770", "77")


class Shop(Played):
    """Where the links of the golden files lead."""

    def sends(self, method: str, path: str) -> bool:
        return (method, path) == ("nobody", "sends here")

    def answer(self, asked: Asked) -> Told:
        return 200 if asked.method == "GET" else 405, b"x"

    def kind(self, target: str) -> str:
        return media_type(target)


def create(cli: Cli, name: str, content: dict[str, Any], folder: Path) -> None:
    """A campaign for everybody that says this, with the options that a person would type."""
    asked = content["template"] if content["type"] == "template" else {}
    if "params" in asked:
        said = ["--template", asked["name"], "--lang", asked["language"]]
        for key, value in asked["params"].items():
            said += ["--param", f"{key}={value}"]
    else:
        file = folder / f"{name}.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        said = ["--message", str(file)]
    options = ("--account", "shop", "--all", "--rate", "max")
    ran = cli("campaign", "create", name, *options, *said, "--json")
    assert ran.code == 0, ran.stderr


@contextmanager
def whatsapp(sandbox: Sandbox) -> Iterator[str]:
    """The sandbox on a socket, in a thread of its own, so that commands can be run beside it."""
    where: Future[str] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = Thread(
        target=loop.run_until_complete,
        args=(serve(sandbox, webhook=None, ready=where.set_result, stop=stop),),
    )
    thread.start()
    try:
        yield where.result(timeout=30)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_what_leaves_through_the_installed_command_is_the_golden_request(
    cli: Cli, quick_cli: Cli, tmp_path: Path
) -> None:
    env = {"TOKEN": "any"}
    with served(Shop()) as shop:
        gold = {
            file.stem: json.loads(
                file.read_text(encoding="utf-8").replace("https://foo.bar", shop.base_url)
            )
            for file in FILES
        }
        known = [one["definition"] for one in gold.values() if "definition" in one]
        sandbox = Sandbox(Knobs(receipt_scale=0), templates=known, media=MEDIA)
        with whatsapp(sandbox) as base_url:
            numbers = ("--phone-number-id", PHONE_NUMBER_ID, "--waba-id", WABA_ID)
            account = ("account", "add", "shop", "--provider", "cloud", *numbers)
            quick_cli(*account, "--base-url", base_url, "--token", "env:TOKEN")
            quick_cli("template", "sync", "--account", "shop", env=env)
            person = next(iter(gold.values()))["person"]
            values = [f"--set={key}={value}" for key, value in person.items()]
            quick_cli("contact", "add", "+16505551234", *values)
            for name, one in gold.items():
                create(quick_cli, name, one["content"], tmp_path)
            ran = cli("campaign", "start", "--yes", *gold, "--parallel", "10", "--json", env=env)
    assert ran.code == 0, ran.stderr
    assert sandbox.stats()["outcomes"] == {"accepted": len(gold)}
    names = {campaign["id"]: campaign["name"] for campaign in ran.json}
    left = {}
    for seen in sandbox.log:
        request = json.loads(seen.body)
        _, campaign, _, attempt = request["biz_opaque_callback_data"].split(":")
        assert attempt == "1"
        request["biz_opaque_callback_data"] = "wabcast:c:1:1"
        left[names[campaign]] = request
    assert left == {name: one["request"] for name, one in gold.items()}


def test_every_kind_of_message_has_a_golden_file() -> None:
    gold = [json.loads(file.read_text(encoding="utf-8"))["request"] for file in FILES]
    kinds = {one["type"] for one in gold}
    media = {"image", "video", "document", "audio", "sticker"}
    assert kinds == media | {"text", "template", "interactive", "location"}
    for kind in media:
        sources = {key for one in gold if one["type"] == kind for key in one[kind]}
        assert {"id", "link"} <= sources, kind
    parts = [
        (part["type"], part.get("sub_type"), *sorted({p["type"] for p in part["parameters"]}))
        for one in gold
        if one["type"] == "template"
        for part in one["template"].get("components", ())
        if "parameters" in part
    ]
    for form in ("text", "image", "video", "document", "location"):
        assert ("header", None, form) in parts
    for button in (("url", "text"), ("quick_reply", "payload"), ("COPY_CODE", "coupon_code")):
        assert ("button", *button) in parts
    assert ("body", None, "currency", "date_time") in parts
