"""Clients of the Cloud API that others wrote talk to `sandbox serve`, and are understood."""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from conftest import WABCAST

from wabcast.providers.sandbox_knobs import PHONE_NUMBER_ID, WABA_ID

pywa = pytest.importorskip("pywa", reason="pywa is not installed: pip install 'wabcast[pywa]'")

TO = "+4915112340001"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
LINK = "https://x.example/a"


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A WhatsApp in a process of its own, as anybody starts one."""
    served = subprocess.Popen(
        [WABCAST, "sandbox", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert served.stdout is not None
    try:
        yield served.stdout.readline().strip()
    finally:
        served.terminate()
        served.communicate(timeout=30)


@pytest.fixture
def session() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def client(base_url: str, session: httpx.Client) -> Any:
    """pywa takes a session and sets its base URL to Meta's; ours is set after it."""
    made = pywa.WhatsApp(phone_id=PHONE_NUMBER_ID, waba_id=WABA_ID, token="any", session=session)
    session.base_url = f"{base_url}/v25.0"
    return made


def said(base_url: str) -> dict[str, Any]:
    """The last message that WhatsApp took, without its envelope."""
    log = httpx.get(f"{base_url}/_sandbox/log", trust_env=False).text.splitlines()
    body = json.loads(log[-1])["body"]
    found: dict[str, Any] = body[body["type"]]
    return found


Send = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("send", "wanted"),
    [
        (lambda wa: wa.send_text(TO, "Hi"), {"body": "Hi"}),
        (lambda wa: wa.send_image(TO, f"{LINK}.png", caption="c"), {"link": f"{LINK}.png"}),
        (lambda wa: wa.send_video(TO, f"{LINK}.mp4"), {"link": f"{LINK}.mp4"}),
        (lambda wa: wa.send_document(TO, f"{LINK}.pdf", filename="b.pdf"), {"filename": "b.pdf"}),
        (lambda wa: wa.send_audio(TO, f"{LINK}.mp3"), {"link": f"{LINK}.mp3"}),
        (lambda wa: wa.send_sticker(TO, f"{LINK}.webp"), {"link": f"{LINK}.webp"}),
        (
            lambda wa: wa.send_message(TO, "Well?", buttons=[pywa.types.Button("Yes", "y")]),
            {"type": "button"},
        ),
    ],
)
def test_text_media_and_buttons(
    client: Any, base_url: str, send: Send, wanted: dict[str, Any]
) -> None:
    sent = send(client)
    assert sent.id.startswith("wamid.")
    assert wanted.items() <= said(base_url).items()


def test_a_file_is_uploaded_and_sent_by_its_id(client: Any, base_url: str) -> None:
    media = client.upload_media(PNG, mime_type="image/png", filename="a.png")
    assert client.get_media_url(media.id).file_size == len(PNG)
    client.send_image(TO, media.id)
    assert said(base_url)["id"] == media.id
    client.send_image(TO, PNG, mime_type="image/png")
    assert said(base_url)["id"] != media.id
    assert client.delete_media(media.id).success


def test_templates_are_listed_and_sent(client: Any, base_url: str) -> None:
    t: Any = importlib.import_module("pywa.types.templates")
    assert {"greeting", "spring_offer", "flowers"} <= {one.name for one in client.get_templates()}
    english = t.TemplateLanguage.ENGLISH_US
    sent = client.send_template(TO, "hello_world", english, [])
    assert str(sent.status) == "accepted"
    client.send_template(
        TO, "greeting", t.TemplateLanguage.GERMAN, [t.BodyText.params("Ana", "Acme")]
    )
    assert said(base_url)["language"]["code"] == "de"
    named = t.BodyText.params(first_name="Ana", discount_amount="25%", discount_code="X")
    client.send_template(TO, "welcome_discount", english, [named])
    image = t.HeaderImage.params(image=f"{LINK}.png")
    client.send_template(TO, "spring_offer", english, [image, t.BodyText.params("Ana")])
    (header, _) = said(base_url)["components"]
    assert header["parameters"][0]["image"] == {"link": f"{LINK}.png"}
    coupon = t.CopyCodeButton.params(coupon_code="SAVE25", index=0)
    client.send_template(TO, "coupon", english, [t.BodyText.params("Ana"), coupon])
    with pytest.raises(pywa.errors.WhatsAppError, match="132000"):
        client.send_template(TO, "greeting", english, [t.BodyText.params("Ana")])


def test_a_tick_and_a_check(client: Any, base_url: str) -> None:
    assert client.mark_message_as_read("wamid.1").success
    assert client.get_business_phone_number().status == "CONNECTED"
    stats = httpx.get(f"{base_url}/_sandbox/stats", trust_env=False).json()
    client.mark_message_as_read("wamid.1")
    assert httpx.get(f"{base_url}/_sandbox/stats", trust_env=False).json() == stats
