"""The viewer and the reports in a real browser: `make test-browser`; `make test` passes over them without one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mhkd.inference.report.cohort import write_cohort_index
from mhkd.inference.report.slide_report import write_report
from preprocess.slides.slide import Slide
from tests.results import make_record

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 400, "height": 760}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless browser; the environment variable MHKD_BROWSER is its path, or ``required`` to have one or fail."""
    wanted = os.environ.get("MHKD_BROWSER", "")
    refuse = pytest.fail if wanted else pytest.skip
    found = wanted if wanted not in ("", "required") else next(filter(None, map(shutil.which, COMMANDS)), None)
    if found is None:
        refuse(f"no browser: install chromium, then run `make test-browser` (looked for {', '.join(COMMANDS)})")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        refuse("playwright is not installed: run `make test-browser`")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found)
        yield started
        started.close()


@pytest.fixture
def page(browser) -> Iterator[object]:
    """A page that may not complain: what it logs as an error, or asks for outside, fails the test."""
    complaints: list[str] = []
    page = browser.new_page(viewport=WIDE)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("request", lambda request: _is_outside(request.url) and complaints.append(f"asked for {request.url}"))
    page.complaints = complaints
    yield page
    page.close()
    assert complaints == []


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "file://", "data:", "blob:"))


def counts(page) -> str:
    return page.inner_text("#counts")


def until(page, condition: str) -> None:
    """Wait until a JavaScript expression is true. (Playwright's own way needs eval, which the page forbids.)"""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


def opened(page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#list li")
    settled(page)


def settled(page) -> None:
    """Wait for the end of the way to another place, and for its tiles."""
    until(
        page,
        "viewer.isOpen() && viewer.world.getItemCount() == 1 && viewer.world.getItemAt(0).getFullyLoaded()"
        " && Math.abs(viewer.viewport.getZoom(true) / viewer.viewport.getZoom(false) - 1) < 1e-3"
        " && viewer.viewport.getCenter(true).distanceTo(viewer.viewport.getCenter(false)) < 1e-4",
    )


def pixel(page, selector: str, x: float, y: float) -> list[int]:
    """Red, green, blue and opacity of a canvas of the page, at a place on the page's picture of the slide."""
    script = """([selector, x, y]) => {
      const canvas = document.querySelector(selector), ratio = canvas.width / canvas.clientWidth;
      return Array.from(canvas.getContext("2d").getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data);
    }"""
    return page.evaluate(script, [selector, x, y])


def on_page(page, x: float, y: float) -> tuple[float, float]:
    """Where on the page's picture the pixel (x, y) of the slide is."""
    place = page.evaluate("placement()")
    return place["x"] + x * place["scale"], place["y"] + y * place["scale"]


def test_the_slide_is_shown_with_boxes_where_the_objects_are(page, address, discs):
    opened(page, address)
    assert counts(page).startswith("5 of 5, ")
    for x, y, radius in discs.tolist():
        red, green, blue, _ = pixel(page, "#view canvas", *on_page(page, x, y))
        assert max(abs(red - 110), abs(green - 50), abs(blue - 140)) < 25
        assert pixel(page, "#overlay", *on_page(page, x - radius, y))[3] > 0
        assert pixel(page, "#overlay", *on_page(page, x, y))[3] == 0
    assert page.inner_text("#scale span").endswith("µm")


def test_boxes_of_a_part_of_the_glass_are_where_it_was_scanned(page, address):
    opened(page, f"{address}/#part")
    red, green, blue, _ = pixel(page, "#view canvas", *on_page(page, 500, 450))
    assert max(abs(red - 90), abs(green - 40), abs(blue - 140)) < 25
    assert pixel(page, "#overlay", *on_page(page, 410, 450))[3] > 0


def test_scores_are_filtered_while_the_slider_moves(page, address, discs):
    opened(page, address)
    weakest = on_page(page, discs[4, 0] - discs[4, 2], discs[4, 1])
    assert pixel(page, "#overlay", *weakest)[3] > 0
    page.locator("#threshold").fill("0.65")
    assert counts(page).startswith("3 of 5, ")
    assert page.locator("#list li").count() == 3
    assert pixel(page, "#overlay", *weakest)[3] == 0
    page.locator("#threshold").fill("0.4")
    assert counts(page).startswith("5 of 5")


def test_the_list_is_sorted_as_chosen_and_classes_can_be_left_out(page, address, discs):
    opened(page, address)

    def sizes() -> list[int]:
        return [int(text.split(", ")[1].split()[0]) for text in page.locator("#list li").all_text_contents()]

    diameters = discs[:, 2].astype(int).tolist()  # um, at 0.5 um/px
    assert sizes() == diameters
    page.select_option("#order", "large")
    assert sizes() == sorted(diameters, reverse=True)
    page.select_option("#order", "small")
    assert sizes() == sorted(diameters)
    page.get_by_label("sclerotic").uncheck()
    assert counts(page).startswith("3 of 5")


def test_a_click_on_the_list_leads_to_the_glomerulus(page, address, discs):
    opened(page, address)
    for number in (1, 4):
        page.locator("#list li").nth(number).click()
        settled(page)
        x, y, radius = discs[number].tolist()
        width, height = page.evaluate("[overlay.clientWidth, overlay.clientHeight]")
        seen = on_page(page, x, y)
        assert seen == pytest.approx((width / 2, height / 2), abs=3)
        # Three times the box, along the shorter side.
        assert page.evaluate("placement().scale") * 6 * radius == pytest.approx(min(width, height), rel=0.02)
        red, green, blue, _ = pixel(page, "#view canvas", *seen)
        assert max(abs(red - 110), abs(green - 50), abs(blue - 140)) < 25
        assert page.locator("#list li[aria-current]").count() == 1
    page.locator("#list").press("ArrowUp")
    assert page.locator("#list li").nth(3).get_attribute("aria-current") == "true"


def test_a_click_on_a_box_chooses_its_row(page, address, discs):
    opened(page, address)
    frame = page.locator("#view").bounding_box()
    x, y = on_page(page, discs[2, 0], discs[2, 1])
    page.mouse.click(frame["x"] + x, frame["y"] + y)
    page.wait_for_selector("#list li[aria-current]")
    assert page.locator("#list li").nth(2).get_attribute("aria-current") == "true"


def test_pan_and_zoom(page, address):
    opened(page, address)
    before = page.evaluate("placement()")
    frame = page.locator("#view").bounding_box()
    middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -300)
    settled(page)
    assert page.evaluate("placement().scale") > before["scale"]
    zoomed = page.evaluate("placement()")
    page.mouse.down()
    page.mouse.move(middle[0] - 120, middle[1], steps=6)
    page.mouse.up()
    settled(page)
    assert page.evaluate("placement().x") < zoomed["x"] - 60
    page.click("#home")
    settled(page)
    assert page.evaluate("placement().scale") == pytest.approx(before["scale"], rel=0.01)


def test_another_slide_takes_the_place_of_the_first(page, address):
    opened(page, address)
    page.select_option("#slide", "1")
    until(page, "document.title.startsWith('part.scn')")
    settled(page)
    assert counts(page).startswith("1 of 1")
    assert page.locator("#list li").count() == 1
    assert page.url.endswith("#part")


def test_a_slide_that_is_not_given_is_said_in_words(page, address):
    opened(page, address)
    page.select_option("#slide", "2")
    page.wait_for_selector("#message:not([hidden])")
    assert "zz-lost.svs: where this slide lies was not said" in page.inner_text("#message")
    assert page.locator("#list li").count() == 0
    page.select_option("#slide", "0")
    page.wait_for_selector("#message", state="hidden")
    page.complaints[:] = [text for text in page.complaints if "500" not in text]  # the browser's word for the answer


def test_nothing_is_cut_off_in_a_narrow_window(page, address):
    page.set_viewport_size(NARROW)
    opened(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    for selector in ("#slide", "#threshold", "#order", "#view", "#home"):
        box = page.locator(selector).bounding_box()
        assert box["width"] > 20
        assert 0 <= box["x"] <= box["x"] + box["width"] <= NARROW["width"]
        assert 0 <= box["y"] <= box["y"] + box["height"] <= NARROW["height"]
    last = page.locator("#list li").last
    last.scroll_into_view_if_needed()
    assert last.bounding_box()["y"] + 60 <= NARROW["height"]
    assert page.locator("#list").bounding_box()["height"] > 150


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_reports_fit_the_window_and_load_nothing(page, svs_slide, tmp_path, viewport):
    long = "a-very-long-slide-name-without-any-space-" * 4
    with Slide.open(svs_slide) as slide:
        record = make_record(slide, name=long, slide=f"{long}.svs", files={"report": "report.html"})
        write_report(tmp_path / "report.html", record)
    write_cohort_index(tmp_path, [record.summary] * 3, [(long, f"{long}: not readable")])
    page.set_viewport_size(viewport)
    for name in ("report.html", "index.html"):
        page.goto(Path(tmp_path / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.locator("a").first.click()
    assert page.inner_text("h1") == f"{long}.svs"
    shown = page.evaluate("Array.from(document.images).map(image => image.naturalWidth)")
    assert len(shown) == 6
    assert min(shown) > 0
