"""The board on screens: each width, light and dark, by keyboard, and for screen readers."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browsing import opened
from tests.served.servers import served
from tests.support import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect

pytestmark = pytest.mark.slow

BUSY_HOUR = "flask --app busy_hour run --port 0"
AXE = "axe-core@4.14.1"

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
SCREENS = {"phone": PHONE, "desktop": DESKTOP}

# What is wider than the screen; the timeline has a box of its own to scroll.
WIDE = """
[...document.querySelectorAll("body *")]
  .filter(element => !element.parentElement.closest("#timeline-box"))
  .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
  .map(element => element.outerHTML.slice(0, 200))
"""
# What a finger has to meet; the links of the drawings are as small as their bars.
SMALL = """
[...document.querySelectorAll("a, button, input:not([type=hidden]), select, summary")]
  .filter(element => !element.closest("svg, .skip"))
  .filter(element => element.getBoundingClientRect().height < 40)
  .map(element => element.outerHTML.slice(0, 200))
"""
FINDINGS = """
axe.run(document, { resultTypes: ["violations"] }).then(found => found.violations
  .filter(each => ["serious", "critical"].includes(each.impact))
  .map(each => [each.id, ...each.nodes.slice(0, 3).map(node => node.html)]))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(
            "BUSY_HOUR_STORE", f"sqlite:///{tmp_path_factory.mktemp('busy')}/jobs.db"
        )
        with served(BUSY_HOUR, ROOT / "benchmarks") as client:
            yield client


@pytest.fixture(scope="module")
def paths(client: httpx.Client) -> list[str]:
    """Each kind of page."""
    found = {
        state: client.get(f"/jobs/api/jobs?state={state}").json()["jobs"][0]["id"]
        for state in ("failed", "succeeded", "running")
    }
    jobs = [f"/jobs/job/{id_}" for id_ in found.values()]
    return ["/jobs/", "/jobs/?name=none", *jobs, f"{jobs[0]}/forget", "/jobs/job/none"]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run([npm, "pack", "--silent", AXE], cwd=folder, check=True, timeout=120)
    [archive] = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extract("package/axe.min.js", folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize(("screen", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_axe_finds_nothing_serious(browser, client, paths, axe, screen, scheme):
    with opened(browser, **SCREENS[screen], color_scheme=scheme) as page:
        page.context.add_init_script(axe)  # which the policy of the page allows
        for path in paths:
            page.goto(f"{client.base_url}{path}")
            for details in page.locator("details").all():
                details.locator("summary").click()
            assert (path, page.evaluate(FINDINGS)) == (path, [])


@pytest.mark.parametrize("width", [360, 390, 700, 1280, 3840])
def test_nothing_is_wider_than_the_screen(browser, client, paths, width):
    with opened(browser, viewport={"width": width, "height": 800}) as page:
        for path in paths:
            page.goto(f"{client.base_url}{path}")
            assert (path, page.evaluate(WIDE)) == (path, [])
            scrolled = page.evaluate("document.documentElement.scrollWidth")
            assert (path, scrolled) == (path, width)


def test_a_finger_meets_each_link_and_button_of_a_phone(browser, client, paths):
    with opened(browser, **PHONE) as page:
        for path in paths:
            page.goto(f"{client.base_url}{path}")
            assert (path, page.evaluate(SMALL)) == (path, [])


def steady_details(bar) -> str:
    """What is told of a bar, without the time that a job has run for, which grows."""
    return bar.get_attribute("aria-label").partition(", has run for ")[0]


def test_arrow_keys_lead_to_each_bar_and_its_details_are_told(browser, client):
    with opened(browser) as page:
        page.goto(f"{client.base_url}/jobs/")
        details, focused = page.locator("#timeline-details"), page.locator("*:focus")
        assert page.locator("#timeline a.bar[tabindex='0']").count() == 1
        page.locator("#timeline-box").focus()
        page.keyboard.press("Tab")
        seen = [focused.get_attribute("id")]
        for key in ("ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight", "Home", "End"):
            page.keyboard.press(key)
            expect(details).to_contain_text(steady_details(focused))
            seen.append(focused.get_attribute("id"))
        assert all(id_.startswith("bar-") for id_ in seen)
        assert len(set(seen)) >= 4
        assert seen[-1] == seen[0]
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{client.base_url}/jobs/job/{seen[-1].removeprefix('bar-')}")


def test_pointing_at_a_bar_or_a_minute_tells_its_details(browser, client):
    with opened(browser) as page:
        page.goto(f"{client.base_url}/jobs/")
        bar = page.locator("#timeline a.bar.running").first
        bar.hover()
        expect(page.locator("#timeline-details")).to_contain_text(steady_details(bar))
        page.locator("#slot-1-0-50").hover()
        expect(page.locator("#details-1-0")).to_contain_text("10 min ago: ")


def test_arrow_keys_lead_through_the_minutes_of_a_plot(browser, client):
    with opened(browser) as page:
        page.goto(f"{client.base_url}/jobs/")
        # No job has ended in the last minutes if the tests before have taken as long.
        page.locator("#slot-2-2-50").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#slot-2-2-49")).to_be_focused()
        expect(page.locator("#details-2-2")).to_contain_text("11 min ago: median ")
        expect(page.locator("#details-2-2")).to_contain_text("95th percentile")


def test_a_dark_page_has_light_letters(browser, client):
    script = "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])"

    def lightness(color: str) -> int:
        return sum(int(each) for each in color.removeprefix("rgb(").removesuffix(")").split(","))

    found = {}
    for scheme in ("light", "dark"):
        with opened(browser, color_scheme=scheme) as page:
            page.goto(f"{client.base_url}/jobs/")
            ink, back = (lightness(color) for color in page.evaluate(script))
            found[scheme] = ink < back
    assert found == {"light": True, "dark": False}


def transition_of_bar(page) -> str:
    """How long the bar of a job takes to move; it is a part of the progress element of Chromium."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")

    def elements(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for each in (*node.get("children", ()), *node.get("shadowRoots", ())):
            yield from elements(each)

    root = session.send("DOM.getDocument", {"depth": -1, "pierce": True})["root"]
    bars = [
        node for node in elements(root) if "-webkit-progress-value" in node.get("attributes", ())
    ]
    answer = session.send("CSS.getComputedStyleForNode", {"nodeId": bars[0]["nodeId"]})
    style = {each["name"]: each["value"] for each in answer["computedStyle"]}
    return style["transition-duration"]


def test_nothing_moves_for_those_who_ask_for_reduced_motion(browser, client):
    found = {}
    for motion in ("no-preference", "reduce"):
        with opened(browser, reduced_motion=motion) as page:
            page.goto(f"{client.base_url}/jobs/")
            found[motion] = transition_of_bar(page)
    assert found == {"no-preference": "0.6s", "reduce": "0s"}


def test_a_page_asks_no_other_host_and_breaks_no_policy(browser, client, paths):
    with opened(browser) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        for path in paths:
            page.goto(f"{client.base_url}{path}")
            expect(page.locator("#connection")).not_to_be_empty()
        assert asked
        assert [url for url in asked if not url.startswith(str(client.base_url))] == []


def test_states_are_told_apart_without_colours(browser, client):
    with opened(browser, **DESKTOP) as page:
        page.goto(f"{client.base_url}/jobs/")
        for state in ("failed", "cancelled", "lost"):
            bar = page.locator(f"#timeline a.bar.{state} .pattern").first
            expect(bar).to_have_attribute("fill", f"url(#pattern-{state})")
            assert page.locator(f"#pattern-{state}").count() == 1
        signs = page.locator("#counts use").all()
        assert len({sign.get_attribute("href") for sign in signs}) == 6
        lines = [
            f"getComputedStyle(document.querySelector('polyline.{name}'))"
            for name in ("median", "p95")
        ]
        dashes = [page.evaluate(f"{line}.strokeDasharray") for line in lines]
        assert dashes[0] == "none"
        assert dashes[1] != "none"


def test_a_phone_shows_the_last_minutes_first(browser, client):
    with opened(browser, **PHONE) as page:
        page.goto(f"{client.base_url}/jobs/")
        box = "document.getElementById('timeline-box')"
        page.wait_for_selector("#timeline a.bar[tabindex='0']")
        assert page.evaluate(f"{box}.scrollLeft + {box}.clientWidth >= {box}.scrollWidth - 1")
        assert page.evaluate(f"{box}.scrollLeft") > 0
