"""The page of the service in a real browser: what people do on it, and what goes wrong around it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from serve_helpers import Live

from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.schema import FeedbackRequest
from palate.serve.service import Service

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 30_000  # milliseconds that an expectation may take on a busy machine
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    expect.set_options(timeout=PATIENCE)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens a page. When the test is over, nothing may have been asked of anybody else, and nothing have gone wrong
    but what was foreseen: answers with one of the statuses ``failing``, or nobody answering (0)."""
    contexts, wrong = [], []

    def open_page(
        url: str,
        width: int = 1280,
        scheme: str = "light",
        failing: tuple[int, ...] = (),
        before: Any = None,
        **more: Any,
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **more)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        home = "{0.scheme}://{0.netloc}/".format(urlsplit(url))
        foreseen = [f"responded with a status of {status} " if status else "net::ERR_" for status in failing]

        def said(message: Any) -> None:
            if message.type in ("error", "warning") and not any(one in message.text for one in foreseen):
                wrong.append(message.text)

        page.on("console", said)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((home, "data:", f"blob:{home}")) else wrong.append(request.url)
            ),
        )
        if before is not None:
            before(page)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def column(page: Any, name: str) -> Any:
    return page.locator(f'.column[aria-label="{name}"]')


def rows(page: Any, name: str) -> Any:
    return column(page, name).locator(".row")


def ranked(live: Live, name: str, history: list[str], **more: Any) -> list[str]:
    answer = live.post("/v1/recommend", {"model": name, "history": history, "k": 10, **more}).json
    return [item["id"] for item in answer["items"]]


def expect_list(page: Any, live: Live, name: str, history: list[str], **more: Any) -> None:
    """The column shows what the service answers, in its order."""
    expected = ranked(live, name, history, **more)
    assert expected
    titles = [live.get(f"/v1/items/{one}").json["title"] for one in expected]
    expect(rows(page, name).locator(".name")).to_have_text(titles)


def state(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).fragment, keep_blank_values=True)


def picture(page: Any, title: str) -> Any:
    return page.locator("#catalogue").get_by_role("button", name=title, exact=True)


def person_of(live: Live) -> dict[str, Any]:
    person: dict[str, Any] = live.get("/v1/users").json["users"][0]
    return person


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def test_a_demo_user_is_recommended_to_by_all_models(visit: Visit, live: Live) -> None:
    page, person = visit(live.url), person_of(live)
    page.get_by_label("Demo user").select_option(person["id"])
    for name in ("sasrec", "popularity", "item-knn"):
        expect_list(page, live, name, ids(person["history"]))
    newest_first = [item["title"] for item in reversed(person["history"])]
    expect(page.locator("#history-strip .caption")).to_have_text(newest_first)
    expect(page.locator("#took-next")).to_contain_text(person["held_out"][0]["title"])
    # What the user took next is marked wherever a list has it, and its rank is told.
    held = person["held_out"][0]["id"]
    for name in ("sasrec", "popularity", "item-knn"):
        order = ranked(live, name, ids(person["history"]))
        told = f"took next at rank {order.index(held) + 1}" if held in order else "not among these"
        expect(column(page, name).locator(".status")).to_contain_text(told)
        expect(rows(page, name).get_by_text("took this next")).to_have_count(int(held in order))
    assert state(page)["user"] == [person["id"]]
    assert "item" not in state(page)


def test_pressed_pictures_make_a_history_and_the_way_back_leads_back(visit: Visit, live: Live) -> None:
    page = visit(live.url)
    picture(page, "space story 1").click()
    picture(page, "crime story 2").click()
    expect_list(page, live, "sasrec", ["space-1", "crime-2"])
    expect(picture(page, "space story 1")).to_have_attribute("aria-pressed", "true")
    assert state(page)["item"] == ["space-1", "crime-2"]
    rows(page, "sasrec").first.get_by_role("button", name="Add").click()
    expect(page.locator("#history-strip li")).to_have_count(3)
    page.get_by_role("button", name="Remove crime story 2 from your history").click()
    expect(page.locator("#history-strip li")).to_have_count(2)
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#history-strip li")).to_have_count(3)
    for _ in range(3):
        page.go_back()
    expect_list(page, live, "sasrec", ["space-1", "crime-2"])
    # A picture that is pressed again leaves; the address alone brings everything back elsewhere.
    picture(page, "space story 1").click()
    expect_list(page, live, "sasrec", ["crime-2"])
    other = visit(page.url)
    expect_list(other, live, "sasrec", ["crime-2"])
    expect(other.locator("#history-strip .caption")).to_have_text(["crime story 2"])


def test_what_if_shows_the_lists_without_an_item_and_changes_nothing(visit: Visit, live: Live) -> None:
    history = ["space-1", "love-2", "love-3"]
    page = visit(f"{live.url}/#" + "&".join(f"item={one}" for one in history))
    expect_list(page, live, "sasrec", history)
    question = page.get_by_role("button", name="What if love story 3 were not in your history?")
    question.click()
    expect(column(page, "sasrec").locator(".status")).to_contain_text("Without it:")
    before, after = ranked(live, "sasrec", history), ranked(live, "sasrec", history[:2])
    assert before != after
    shown = rows(page, "sasrec")
    left = [one for one in before if one not in after]
    expect(shown).to_have_count(len(after) + len(left))
    for place, one in enumerate([*after, *left]):
        row = shown.nth(place)
        expect(row).to_have_attribute("data-id", one)
        if one in left:
            told = "leaves"
        elif one not in before:
            told = "new"
        else:
            moved = before.index(one) - place
            told = f"▲ {moved}" if moved > 0 else f"▼ {-moved}" if moved < 0 else ""
        marks = row.locator(".change")
        expect(marks).to_have_text([told] if told else [])
    assert state(page)["item"] == history
    expect(question).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Keep it").click()
    expect_list(page, live, "sasrec", history)
    expect(page.locator("#what-if")).not_to_have_class(re.compile("on"))
    question.click()
    page.locator("#what-if").get_by_role("button", name="Remove it").click()
    expect_list(page, live, "sasrec", history[:2])
    assert state(page)["item"] == history[:2]


def test_resting_on_a_tile_asks_what_if_until_the_pointer_leaves(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1&item=love-2&model=sasrec")
    expect_list(page, live, "sasrec", ["space-1", "love-2"])
    page.locator("#history-strip .pick").first.hover()
    expect(page.locator("#what-if")).to_contain_text("The lists without love story 2")
    expect(column(page, "sasrec").locator(".status")).to_contain_text("Without it:")
    page.mouse.move(5, 5)
    expect(column(page, "sasrec").locator(".status")).not_to_contain_text("Without it:")
    expect_list(page, live, "sasrec", ["space-1", "love-2"])
    assert state(page)["item"] == ["space-1", "love-2"]


def test_why_tells_what_moved_the_score(visit: Visit, live: Live) -> None:
    history = ["space-1", "space-2", "love-3"]
    page = visit(f"{live.url}/#model=sasrec&" + "&".join(f"item={one}" for one in history))
    second = ranked(live, "sasrec", history)[1]
    why = rows(page, "sasrec").nth(1).get_by_role("button", name="Why")
    why.click()
    panel = page.get_by_role("region", name="Why ")
    told = live.post("/v1/explain", {"model": "sasrec", "history": history, "item": second}).json
    expect(panel).to_contain_text("Rank 2 among all items outside your history")
    strongest = max(told["history"], key=lambda one: abs(one["effect"]))
    first = panel.locator(".effects").first.locator("li").first
    expect(first).to_contain_text(strongest["title"])
    assert abs(strongest["effect"]) > 0.1  # told with two decimals
    expect(first.locator(".number")).to_have_text(f"{strongest['effect']:+.2f}".replace("-", "−"))
    expect(panel.locator(".effects").nth(1).locator("li")).to_have_count(len(told["modalities"]))
    alike = live.post("/v1/similar", {"model": "sasrec", "item": second, "k": 8}).json
    expect(panel.locator(".strip .caption")).to_have_text([item["title"] for item in alike["items"]])
    panel.get_by_role("button", name="in text").click()
    by_text = live.post("/v1/similar", {"model": "sasrec", "item": second, "k": 8, "by": "text"}).json
    expect(panel.locator(".strip .caption")).to_have_text([item["title"] for item in by_text["items"]])
    expect(panel).to_contain_text(str(live.get(f"/v1/items/{second}").json["fields"]["year"]))
    expect(why).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(why).to_be_focused()
    expect(why).to_have_attribute("aria-expanded", "false")


def test_why_names_what_it_is_like(visit: Visit, near: Live) -> None:
    page = visit(f"{near.url}/#item=space-1&item=crime-2&item=space-3")
    first = ranked(near, "near", ["space-1", "crime-2", "space-3"])[0]
    rows(page, "near").first.get_by_role("button", name="Why").click()
    panel = page.get_by_role("region", name="Why ")
    answer = near.post("/v1/explain", {"history": ["space-1", "crime-2", "space-3"], "item": first}).json
    like = panel.locator(".near li")
    expect(like).to_have_count(len(answer["neighbours"]))
    expect(like.first).to_contain_text("space story 3")
    expect(like.first).to_contain_text("taken last; ")
    expect(like.first).to_contain_text("often taken together")
    expect(like.first).to_contain_text("alike in text")
    expect(like.first).to_contain_text("same tags (space)")
    expect(like.first.locator(".number")).to_have_text(f"{answer['neighbours'][0]['effect']:+.2f}")
    panel.get_by_role("button", name="taken together").click()
    alike = near.post("/v1/similar", {"item": first, "k": 8, "by": "co-occurrence"}).json
    expect(panel.locator(".strip .caption")).to_have_text([item["title"] for item in alike["items"]])
    column(page, "near").locator(".about summary").click()
    expect(column(page, "near").locator(".about")).to_contain_text("co-occurrence, text")


def test_models_come_and_go(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1")
    toggles = page.get_by_role("group", name="Models side by side")
    expect(page.locator(".column")).to_have_count(3)
    toggles.get_by_role("button", name="popularity").click()
    expect(page.locator(".column")).to_have_count(2)
    assert state(page)["model"] == ["sasrec", "item-knn"]
    toggles.get_by_role("button", name="sasrec").click()
    expect(page.locator(".column h3")).to_have_text(["item-knn"])
    # The last one stays.
    expect(toggles.get_by_role("button", name="item-knn")).to_be_disabled()
    toggles.get_by_role("button", name="sasrec").click()
    expect(page.locator(".column h3")).to_have_text(["item-knn", "sasrec"])
    expect_list(page, live, "sasrec", ["space-1"])


def test_the_catalogue_is_searched(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1")
    expect(page.locator("#catalogue")).to_be_hidden()
    page.locator("body").press("/")
    search = page.get_by_role("searchbox", name="Search the catalogue")
    expect(search).to_be_focused()
    search.press_sequentially("crime")
    captions = page.locator("#catalogue .caption")
    expect(captions).to_have_count(8)
    assert all(text.startswith("crime") for text in captions.all_inner_texts())
    search.fill("no such film")
    expect(page.locator("#catalogue")).to_contain_text("Nothing with “no such film”")
    expect(captions).to_have_count(0)
    search.press("Escape")
    expect(page.locator("#catalogue")).to_be_hidden()


def test_filters_narrow_every_list(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1", failing=(422,))
    expect_list(page, live, "sasrec", ["space-1"])
    page.get_by_label("Show").select_option("5")
    expect_list(page, live, "sasrec", ["space-1"], k=5)
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Field").select_option("tags")
    page.get_by_label("Value").fill("crime")
    page.get_by_role("button", name="Only these").click()
    for name in ("sasrec", "popularity", "item-knn"):
        expect_list(page, live, name, ["space-1"], k=5, only=["tags=crime"])
    assert state(page)["only"] == ["tags=crime"]
    # A model that cannot diversify says so, and shows its list all the same.
    slider = page.get_by_role("slider", name="Diversity")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowRight")
    expect_list(page, live, "sasrec", ["space-1"], k=5, only=["tags=crime"], diversity=0.6)
    expect(column(page, "popularity").locator(".status")).to_contain_text("Not diversified")
    expect_list(page, live, "popularity", ["space-1"], k=5, only=["tags=crime"])
    page.get_by_role("button", name="Drop the condition").click()
    expect_list(page, live, "sasrec", ["space-1"], k=5, diversity=0.6)
    # A condition that nothing meets is told in the service's words; the page goes on.
    page.get_by_label("Value").fill("crimes")
    page.get_by_role("button", name="Only these").click()
    expect(column(page, "sasrec").get_by_role("alert")).to_contain_text("Did you mean 'tags=crime'?")
    page.get_by_role("button", name="Drop the condition").click()
    expect(column(page, "sasrec").locator(".problem")).to_be_hidden()
    expect_list(page, live, "sasrec", ["space-1"], k=5, diversity=0.6)


def test_conditions_are_suggested_and_compared(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1&model=sasrec")
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Field").select_option("tags")
    value, suggested = page.get_by_label("Value"), page.locator("#filters datalist option")
    expect(suggested.first).to_be_attached()
    values = [one.get_attribute("value") for one in suggested.all()]
    assert {"crime", "space"} <= set(values)
    value.fill("crime,")  # the next of several; what is there already is not suggested again
    expect(page.locator("#filters datalist option[value='crime,space']")).to_be_attached()
    expect(page.locator("#filters datalist option[value='crime,crime']")).to_have_count(0)
    value.fill("crime,space")
    value.press("Enter")
    expect_list(page, live, "sasrec", ["space-1"], only=["tags=crime,space"])
    page.get_by_label("Field").select_option("year")
    expect(value).to_have_attribute("placeholder", re.compile(r"^\d[\d,]* to \d"))
    page.get_by_label("Comparison").select_option(">=")
    value.fill("1995")
    page.get_by_role("button", name="None of these").click()
    more = {"only": ["tags=crime,space"], "without": ["year>=1995"]}
    expect_list(page, live, "sasrec", ["space-1"], **more)
    expect(page.locator("#filters .chip").nth(1)).to_contain_text("no year >= 1995")
    assert state(page)["without"] == ["year>=1995"]
    page.reload()  # the address holds it
    expect_list(page, live, "sasrec", ["space-1"], **more)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_field_stands_beside_each_title(visit: Visit, live: Live, width: int) -> None:
    page = visit(f"{live.url}/#item=space-1&model=sasrec", width=width)
    expect_list(page, live, "sasrec", ["space-1"])
    expect(page.locator(".beside:visible")).to_have_count(0)
    page.get_by_label("beside titles").focus()
    page.get_by_label("beside titles").select_option("year")
    items = live.post("/v1/recommend", {"model": "sasrec", "history": ["space-1"], "fields": True}).json["items"]
    shown = [str(item["fields"]["year"]) for item in items if item["fields"]["year"] is not None]
    expect(page.locator(".beside:visible")).to_have_text(shown)
    assert state(page)["field"] == ["year"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("beside titles").select_option("nothing")
    expect(page.locator(".beside:visible")).to_have_count(0)


def test_what_the_address_names_and_nobody_knows_is_told(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#user=stranger&item=space-1&item=XYZ&model=sasrec&model=oracle", failing=(404,))
    notices = page.locator("#notices")
    expect(notices).to_contain_text("Not known to sasrec: XYZ.")
    expect(notices).to_contain_text("no demo user “stranger”")
    expect(notices).to_contain_text("Not loaded here: oracle.")
    expect_list(page, live, "sasrec", ["space-1"])
    expect(page.locator("#history-strip li").first).to_contain_text("not in the catalogue")
    notices.get_by_role("button", name="Leave it out").click()
    expect(notices).not_to_contain_text("XYZ")
    assert state(page)["item"] == ["space-1"]


@pytest.mark.parametrize("width", [360, 1280])
def test_titles_that_mean_harm_are_only_text(visit: Visit, hostile: Live, width: int) -> None:
    page = visit(hostile.url, width=width, failing=(404, 422))
    script = "<script>document.title='broken'</script>"
    expect(page.locator("#catalogue .tile")).to_have_count(13)
    expect(page.locator("#catalogue .caption").get_by_text(script, exact=True)).to_have_count(1)
    for tile in page.locator("#catalogue .pick").all():
        tile.click()
    expect(page.locator("#history-strip li")).to_have_count(13)
    page.get_by_role("button", name=re.compile("^What if <script>")).click()
    expect(page.locator("#what-if")).to_contain_text(script)
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Also recommend what is in the history").check()
    name = "hostile"
    expect(rows(page, name)).to_have_count(10)
    awkward = rows(page, name).filter(has_text="an awkward id")
    page.get_by_label("Show").select_option("20")
    awkward.get_by_role("button", name="Why").click()
    expect(page.get_by_role("region", name="Why an awkward id")).to_contain_text("Rank")
    assert page.title() == "Palate"
    assert page.locator("main script, main img[onerror]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_service_goes_away_and_comes_back(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1&model=sasrec", failing=(0,))
    expect_list(page, live, "sasrec", ["space-1"])
    before = rows(page, "sasrec").locator(".name").all_inner_texts()
    banner = page.get_by_role("alert").filter(has_text="The service does not answer")
    expect(banner).to_be_hidden()
    first = rows(page, "sasrec").first
    added = first.get_attribute("data-id")
    live.stop()
    try:
        first.get_by_role("button", name="Add").click()
        expect(banner).to_be_visible()
        # What was there stays, and what was asked for is not forgotten.
        assert rows(page, "sasrec").locator(".name").all_inner_texts() == before
        expect(page.locator("#history-strip li")).to_have_count(2)
        banner.get_by_role("button", name="Try now").click()
        expect(banner).to_be_visible()
    finally:
        live.start()
    expect(banner).to_be_hidden()
    expect_list(page, live, "sasrec", ["space-1", str(added)])


def test_a_slow_model_keeps_nobody_waiting_and_a_late_answer_is_not_shown(visit: Visit, live: Live) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        if route.request.post_data_json["model"] == "sasrec":
            held.append(route)
        else:
            route.continue_()

    page = visit(f"{live.url}/#item=space-1", before=lambda page: page.route("**/v1/recommend", hold))
    expect_list(page, live, "popularity", ["space-1"])
    expect(column(page, "sasrec")).to_have_attribute("aria-busy", "true")
    expect(column(page, "sasrec")).to_have_class(re.compile("busy"))
    expect(column(page, "popularity")).to_have_attribute("aria-busy", "false")
    expect(rows(page, "sasrec")).to_have_count(0)
    rows(page, "popularity").first.get_by_role("button", name="Add").click()
    added = state(page)["item"][1]
    expect_list(page, live, "popularity", ["space-1", added])
    assert [one.request.post_data_json["history"] for one in held] == [["space-1"], ["space-1", added]]
    held[1].continue_()
    expect_list(page, live, "sasrec", ["space-1", added])
    expect(column(page, "sasrec")).to_have_attribute("aria-busy", "false")
    # The first question was taken back: whatever is said to it now reaches nobody.
    assert "ERR_ABORTED" in (held[0].request.failure or "")


def test_a_written_preference_is_shown_as_it_grew(visit: Visit, live: Live) -> None:
    person = person_of(live)
    texts = ["Likes <b>space</b> stories.", "Likes quiet space stories."]
    half = len(person["history"]) // 2
    person["preference"] = [
        {"items": person["history"][:half], "text": texts[0]},
        {"items": person["history"][half:], "text": texts[1]},
    ]
    page = visit(
        f"{live.url}/#user={person['id']}",
        before=lambda page: page.route("**/v1/users", lambda route: route.fulfill(json={"users": [person]})),
    )
    expect_list(page, live, "sasrec", ids(person["history"]))
    page.get_by_text("Written preference").click()
    expect(page.locator("blockquote")).to_have_text(texts)
    expect(page.locator("blockquote ins")).to_have_text(["quiet space"])
    expect(page.get_by_text("which you have changed since")).to_have_count(0)
    page.get_by_role("button", name=re.compile("^Remove .* from your history$")).first.click()
    expect(page.get_by_text(f"original history of {len(person['history'])} items")).to_be_visible()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("which you have changed since")).to_have_count(0)
    assert "item" not in state(page)


def test_a_key_is_asked_for_and_opens_the_pictures_too(visit: Visit, bundles: dict[str, Path]) -> None:
    locked = Live(lambda: Service([BundleSpec("sasrec", bundles["sasrec"])], ServeConfig()), key="sesame")
    try:
        page = visit(locked.url, failing=(401,))
        dialog = page.get_by_role("dialog")
        for key in ("wrong", "sesame"):
            dialog.get_by_label("Key").fill(key)
            dialog.get_by_role("button", name="Continue").click()
        expect(rows(page, "sasrec")).to_have_count(10)
        expect(dialog).to_have_count(0)
        first = page.locator("#catalogue img").first
        expect(first).to_have_attribute("src", re.compile("^blob:"))
        expect(first).to_have_js_property("naturalWidth", 256)
        assert "sesame" not in page.url
        page.reload()  # the tab remembers
        expect(rows(page, "sasrec")).to_have_count(10)
        page.goto(f"{locked.url}/docs")
        expect(page.locator("#post-v1-recommend")).to_contain_text("$PALATE_API_KEY")
    finally:
        locked.stop()


def test_the_page_below_a_path_asks_for_nothing_outside_of_it(visit: Visit, bundles: dict[str, Path]) -> None:
    below = Live(lambda: Service([BundleSpec("sasrec", bundles["sasrec"])], ServeConfig(root_path="/shop/palate")))
    home, asked = f"{below.url}/shop/palate/", []

    def watch(page: Any) -> None:
        page.on("request", lambda request: asked.append(request.url))

    try:
        page = visit(home, before=watch)
        expect(rows(page, "sasrec")).to_have_count(10)
        expect(page.locator("#catalogue img").first).to_have_js_property("naturalWidth", 256)
        page.get_by_role("link", name="Endpoints").click()
        expect(page.locator("#post-v1-recommend")).to_contain_text(f"{home}v1/recommend")
        page.get_by_role("link", name="Palate").click()
        expect(page).to_have_url(re.compile(f"^{re.escape(home)}"))
        page.goto("about:blank")  # the page would go on asking the service that is about to stop
        assert [url for url in asked if not url.startswith((home, "data:", "about:"))] == []
    finally:
        below.stop()


def test_everything_is_reached_with_the_keyboard(visit: Visit, live: Live) -> None:
    page = visit(live.url)
    expect(rows(page, "sasrec")).to_have_count(10)

    def tab_to(target: Any, most: int = 80) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if target.evaluate("(one) => one === document.activeElement"):
                break
        expect(target).to_be_focused()
        assert target.evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid", "the focus cannot be seen"

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the recommendations")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("space")
    expect(page.locator("#catalogue .tile")).to_have_count(7)
    tab_to(picture(page, "space story 1"))
    page.keyboard.press("Enter")
    expect_list(page, live, "sasrec", ["space-1"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Browse pictures")).to_be_focused()
    question = page.get_by_role("button", name="What if space story 1 were not in your history?")
    tab_to(question)
    page.keyboard.press("Space")
    expect(column(page, "sasrec").locator(".status")).to_contain_text("Without it:")
    page.keyboard.press("Escape")
    expect(column(page, "sasrec").locator(".status")).not_to_contain_text("Without it:")
    expect(question).to_be_focused()
    why = rows(page, "sasrec").first.get_by_role("button", name="Why")
    tab_to(why)
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="Why ")
    expect(panel.locator(".strip .pick").first).to_be_visible()
    tab_to(panel.get_by_role("button", name="Close"))
    page.keyboard.press("Enter")
    expect(why).to_be_focused()
    # An item that is added leaves the list; the focus takes the place it had.
    tab_to(rows(page, "sasrec").nth(1).get_by_role("button", name="Add"))
    page.keyboard.press("Enter")
    expect(page.locator("#history-strip li")).to_have_count(2)
    expect_list(page, live, "sasrec", state(page)["item"])
    assert page.evaluate("document.activeElement.closest('.row') !== null")


@pytest.mark.parametrize("width", [360, 768])
def test_small_screens_do_not_scroll_sideways(visit: Visit, live: Live, width: int) -> None:
    person = person_of(live)
    page = visit(live.url, width=width, has_touch=True)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    expect(page.locator("#catalogue .tile").first).to_be_visible()
    assert page.evaluate(fits)
    page.locator("button.person").first.tap()
    name = "sasrec"
    expect_list(page, live, name, ids(person["history"]))
    rows(page, name).first.get_by_role("button", name="Why").tap()
    expect(page.get_by_role("region", name="Why ").locator(".strip .pick").first).to_be_visible()
    page.get_by_text("Filters", exact=True).tap()
    page.locator("#history-strip .what-if-button").first.tap()
    expect(column(page, name).locator(".status")).to_contain_text("Without it:")
    column(page, name).locator(".about summary").tap()
    assert page.evaluate(fits)
    page.goto(f"{live.url}/docs")
    expect(page.locator("#post-v1-recommend")).to_be_visible()
    assert page.evaluate(fits)


# Texts whose contrast with what lies behind them is less than WCAG 2 asks of them (4.5, or 3 if they are large).
# Text over pictures and gradients cannot be judged this way; what is switched off need not be legible.
FAINT = """() => {
  const channels = (colour) => {
    const numbers = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: numbers.slice(0, 3), alpha: numbers[3] ?? 1 };
  };
  const light = (rgb) => {
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest("button:disabled, .left, .without, option, .unseen, noscript")) continue;
    const style = getComputedStyle(element);
    const layers = [];
    let judged = true;
    for (let one = element; one; one = one.parentElement) {
      const here = getComputedStyle(one);
      if (here.backgroundImage !== "none") judged = false;
      const { rgb, alpha } = channels(here.backgroundColor);
      layers.push({ rgb, alpha });
      if (alpha === 1) break;
    }
    if (!judged) continue;
    const over = (under, { rgb, alpha }) => rgb.map((one, at) => one * alpha + under[at] * (1 - alpha));
    const ground = layers.reverse().reduce(over, [255, 255, 255]);
    const [a, b] = [light(channels(style.color).rgb), light(ground)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
    seen += 1;
  }
  return { faint, seen };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(visit: Visit, live: Live, scheme: str) -> None:
    person = person_of(live)
    page = visit(f"{live.url}/#user={person['id']}", scheme=scheme, failing=(422,), reduced_motion="reduce")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(20, 23, 27)") == (scheme == "dark")
    expect_list(page, live, "sasrec", ids(person["history"]))
    page.get_by_role("button", name="Browse pictures").click()
    expect(page.locator("#catalogue .tile").first).to_be_visible()
    page.get_by_text("Filters", exact=True).click()
    for name in ("sasrec", "popularity"):
        rows(page, name).first.get_by_role("button", name="Why").click()
    expect(page.locator(".explanation .strip .pick").first).to_be_visible()
    found = page.evaluate(FAINT)
    assert found["seen"] > 100
    assert found["faint"] == []
    page.get_by_role("button", name=re.compile("^What if ")).first.click()
    expect(column(page, "sasrec").locator(".status")).to_contain_text("Without it:")
    assert page.evaluate(FAINT)["faint"] == []
    # The measure itself sees a text that is too faint.
    page.evaluate("document.querySelector('h2').style.color = getComputedStyle(document.body).backgroundColor")
    assert len(page.evaluate(FAINT)["faint"]) == 1
    page.goto(f"{live.url}/docs")
    expect(page.locator("#post-v1-recommend")).to_be_visible()
    assert page.evaluate(FAINT)["faint"] == []


def test_pictures_and_controls_have_names(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/#item=space-1&item=love-0")
    expect_list(page, live, "sasrec", ["space-1", "love-0"])
    rows(page, "sasrec").first.get_by_role("button", name="Why").click()
    expect(page.get_by_role("region", name="Why ").locator(".strip .pick").first).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("img:not([alt])").count() == 0
    nameless = """[...document.querySelectorAll("button, input, select, summary, a")].filter(
      (one) => !(one.textContent.trim() || one.labels?.length || one.getAttribute("aria-label"))).length"""
    assert page.evaluate(nameless) == 0
    # A film without a picture has its title there instead.
    expect(page.get_by_role("button", name="Remove love story 0").locator(".blank")).to_have_text("love story 0")
    for landmark in ("banner", "main", "search", "contentinfo"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    styled = """[...document.querySelectorAll("link[rel=stylesheet], script")].every(
      (one) => new URL(one.href || one.src).origin === location.origin)"""
    assert page.evaluate(styled)


def test_the_endpoints_are_told_with_calls_that_work(visit: Visit, live: Live) -> None:
    page = visit(f"{live.url}/docs")
    for method, path in (("post", "recommend"), ("post", "similar"), ("post", "explain"), ("get", "items")):
        expect(page.locator(f"#{method}-v1-{path}")).to_be_visible()
    told = live.get("/openapi.json").json
    expect(page.locator(".method")).to_have_count(sum(len(methods) for methods in told["paths"].values()))
    bodies = {}
    for name in ("recommend", "similar", "explain", "feedback"):
        body = re.search(r"-d '(.*)'", page.locator(f"#post-v1-{name} pre").inner_text())
        assert body is not None
        bodies[name] = body[1].encode()
        assert name == "feedback" or live.post(f"/v1/{name}", bodies[name]).status == 200
    # This service keeps none, so the body alone is looked at.
    (item,) = FeedbackRequest.model_validate_json(bodies["feedback"]).items
    assert live.get(f"/v1/items/{item}").status == 200
    page.get_by_role("link", name="RecommendRequest").first.click()
    expect(page.locator("#RecommendRequest")).to_be_in_viewport()
    expect(page.locator("#RecommendRequest td code", has_text="FIELD=VALUE")).to_be_visible()
