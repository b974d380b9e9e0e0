"""The page in a real browser: a campaign started, watched, paused, resumed and duplicated by hand.

Chromium, headless, by its own driver; where there is none the tests are skipped. Debian:
`apt-get install chromium chromium-driver`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from served import Served
from storm import Field, field_of

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="chromium and its driver are not installed"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

HOSTILE = "<script>alert(1)</script>"

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1100,900"),
)


class Browser:
    """The few things a person does."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(executable_path=str(DRIVER))
        )

    def go(self, url: str) -> None:
        self.driver.get(url)

    def text(self, css: str = "main") -> str:
        found: str = self.driver.execute_script(
            "return document.querySelector(arguments[0])?.innerText ?? ''", css
        )
        return found

    def has_heading(self, said: str) -> bool:
        return self.text("h1") == said

    def done(self) -> float:
        """How far the large bar is."""
        return float(
            self.driver.execute_script(
                "return document.querySelector('.progress.large progress')?.value ?? -1"
            )
        )

    def press(self, css: str) -> None:
        self.until(lambda: self.driver.execute_script(_IS_THERE, css))
        self.driver.execute_script("document.querySelector(arguments[0]).click()", css)

    def type(self, css: str, said: str) -> None:
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, css).send_keys(said)

    def until(self, holds: Callable[[], object]) -> None:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(
            self.driver, 60, poll_frequency=0.1, ignored_exceptions=(WebDriverException,)
        ).until(lambda _driver: holds())

    def complaints(self) -> list[str]:
        """What its console holds against the page."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] == "SEVERE" and "401" not in entry["message"]
        ]


_IS_THERE = "return document.querySelector(arguments[0]) !== null"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.driver.quit()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Field]:
    with field_of(tmp_path, "--latency", "5ms") as place:
        yield place


def test_a_campaign_by_hand(place: Field, browser: Browser) -> None:
    place.campaign(500, "--rate", "25/s", name=HOSTILE)
    edited = "+4915110000010"
    place.run(
        "contact", "add", edited, "--set", f"first_name={HOSTILE}", "--set", "last_name=[red]"
    )
    served = Served(place)
    browser.go(served.url)
    assert browser.text("h1") == "Log in"
    browser.type("#token", "wab_00000000_wrong")
    browser.press("main button")
    browser.until(lambda: "does not stand" in browser.text())
    browser.type("#token", served.token)
    browser.press("main button")
    browser.until(lambda: browser.text("h1") == "Campaigns")
    assert browser.text(".campaigns tbody a") == HOSTILE

    browser.press(".campaigns tbody a")
    browser.until(lambda: browser.text("h1") == HOSTILE)
    browser.press("#do-start")
    browser.until(lambda: browser.text(".state") == "▶ running" or "running" in browser.text())
    browser.until(lambda: browser.done() > 10)
    before = browser.done()
    browser.until(lambda: browser.done() > before)  # the page was not loaded again
    browser.press("#do-pause")
    browser.until(lambda: "paused" in browser.text(".state"))
    assert place.show(HOSTILE)["status"] == "paused"
    assert 0 < place.show(HOSTILE)["messages_sent"] < 500
    paused = browser.done()
    browser.press("#do-resume")
    browser.until(lambda: browser.done() > paused + 5)
    browser.press("#do-duplicate")
    browser.until(lambda: browser.text("h1") == f"{HOSTILE} (Copy)")
    assert "draft" in browser.text(".state")

    browser.go(f"{served.url}/contacts")
    browser.type("#q", "script")
    browser.press(".search button")
    browser.until(lambda: "[red]" in browser.text(".people"))
    assert HOSTILE in browser.text(".people")
    assert browser.complaints() == [], "a script ran, or something was loaded that may not be"
    browser.press(".who button")
    browser.until(lambda: browser.text("h1") == "Log in")
    browser.go(f"{served.url}/contacts")
    assert browser.text("h1") == "Log in"
    assert served.end() == 0


@pytest.mark.parametrize(("wide", "scheme"), [(1100, "light"), (360, "dark")])
def test_it_fits_and_can_be_read(place: Field, browser: Browser, wide: int, scheme: str) -> None:
    place.campaign(40, "--rate", "max")
    place.run("campaign", "start", "--yes", "storm", "--quiet")
    served = Served(place, "--no-runner")
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": wide, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.go(served.url)
    browser.type("#token", served.token)
    browser.press("main button")
    browser.until(lambda: browser.text("h1") == "Campaigns")
    for css, heading in ((".campaigns tbody a", "storm"), (".top nav a:last-child", "Contacts")):
        assert browser.driver.execute_script(_OVERFLOW) <= wide
        assert browser.driver.execute_script(_UNNAMED) == []
        assert float(browser.driver.execute_script(_CONTRAST)) >= 4.5
        browser.press(css)
        browser.until(partial(browser.has_heading, heading))
    assert served.end() == 0


_OVERFLOW = "return document.documentElement.scrollWidth"

# Controls that nobody who cannot see them could tell apart.
_UNNAMED = """
return [...document.querySelectorAll("button, a, input:not([type=hidden]), progress, table, nav")]
  .filter(e => !e.closest("[aria-hidden=true]") && e.getAttribute("aria-hidden") !== "true")
  .filter(e => !(e.innerText || e.ariaLabel || e.labels?.length))
  .map(e => e.outerHTML)
"""

# The least contrast of any text with what lies behind it (WCAG 2.2, 1.4.3).
_CONTRAST = """
const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
const lum = (c) => rgb(c).slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if ((rgb(c)[3] ?? 1) > 0) return c;
  }
  return "rgb(255, 255, 255)";
};
let least = 99;
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !e.getClientRects().length) continue;
  const [a, b] = [lum(getComputedStyle(e).color), lum(behind(e))].sort((x, y) => y - x);
  least = Math.min(least, (a + 0.05) / (b + 0.05));
}
return least;
"""
