"""The page in a real browser: it sorts with the keyboard, runs nothing else, asks for nothing, fits a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def made(shop: Path, popular: Path, neural: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from palate.cli.demo import run_command

    out = tmp_path_factory.mktemp("report-browser") / "out"
    named = f"neural with a name that is long={neural}"
    run_command(["report", f"popular={popular}", named, "--out", str(out), "--gallery", "12"])
    return out / "report.html"


def test_tables_sort_with_the_keyboard_and_come_back(browser: Any, made: Path) -> None:
    page = browser.new_page()
    page.goto(made.as_uri())
    table = page.locator("#comparison-1 table").nth(1)  # the slices
    button = table.locator("thead button").nth(1)

    def users() -> list[int]:
        return [int(text.replace(",", "")) for text in table.locator("tbody td:nth-child(2)").all_inner_texts()]

    before = users()
    button.focus()
    page.keyboard.press("Enter")
    assert users() == sorted(before, reverse=True)
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert users() == sorted(before)
    page.keyboard.press("Enter")
    assert users() == before
    assert table.locator("thead th").nth(1).get_attribute("aria-sort") is None
    page.locator("#cost thead button").nth(1).click()  # a column of words
    assert page.locator("#cost tbody td:nth-child(2)").first.inner_text() == "popularity"


def test_unknown_figures_come_last_whichever_way(browser: Any, made: Path) -> None:
    page = browser.new_page()
    page.goto(made.as_uri())
    table = page.locator("#comparison-1 table").first
    for _ in range(2):
        table.locator("thead button").nth(3).click()  # the difference: the base has none
        assert table.locator("tbody th").last.inner_text().startswith("popular")


def test_no_column_and_no_title_is_cut_off(browser: Any, popular: Path, neural: Path, tmp_path: Path) -> None:
    from palate.cli.demo import run_command

    many = [f"popular-{number}={popular}" for number in range(11)]
    named = f"a neural model with a name that is long={neural}"
    run_command(["report", *many, named, "--out", str(tmp_path), "--gallery", "3"])
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.locator("#comparison-1 th").count() > 60
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    cut = "(names) => [...document.querySelectorAll(names)].filter((one) => one.scrollWidth > one.clientWidth + 1 || "
    cut += "one.scrollHeight > one.clientHeight + 1).map((one) => one.outerHTML.slice(0, 200))"
    assert page.evaluate(cut, ".scroll, .strip, .tile figcaption, .blank") == []
    assert page.locator(".in-words .lead").inner_text().startswith("100 of 100 customers find their next item")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_nothing_is_asked_for_and_it_fits(browser: Any, made: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: told.append(request.url) if request.url[:5] not in ("data:", "file:") else None)
    page.goto(made.as_uri())
    page.wait_for_load_state("load")
    assert told == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter((one) => !one.complete || one.naturalWidth === 0).length"
    assert page.evaluate(broken) == 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 27)") == (scheme == "dark")
    # The policy holds also for what somebody would add to the page later.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.bad = 1\">')")
    page.wait_for_timeout(100)
    assert page.evaluate("window.bad") is None
    context.close()
