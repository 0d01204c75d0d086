"""The parts of the report: escaping, tables, charts, contrast, who is drawn, diagnostics."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup
from report_helpers import Page

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.groups import group_runs
from palate.evaluation.saved import parse_table
from palate.report.build import GalleryPlan, write_report
from palate.report.charts import Line, line_chart
from palate.report.comparison import section
from palate.report.gallery import GalleryEntry, choose
from palate.report.in_words import in_words
from palate.report.models import gallery_models
from palate.report.page import style
from palate.report.render import ENVIRONMENT, clean, render
from palate.report.tables import Cell, TableView
from palate.report.trade_offs import trade_offs


def fill(source: str, **view: object) -> str:
    """A template of a test, filled in as those of the report are."""
    return ENVIRONMENT.from_string(source).render(**view)


@given(st.text(), st.text())
def test_any_text_comes_back_as_text(text: str, value: str) -> None:
    made = fill('<p>{{ text }}<img alt="{{ value }}"><bdi>{{ text }}</bdi></p>', text=text, value=value)
    page = Page(made)
    assert [name for name, _ in page.elements] == ["p", "img", "bdi"]
    assert page.elements[1][1] == {"alt": clean(value)}
    assert page.text == clean(text) + clean(text)
    made.encode("utf-8")  # halves of characters would not go into a file


def test_only_markup_of_templates_is_markup() -> None:
    assert fill("{{ one }}{{ other }}{{ nothing }}", one="<b>", other=Markup("<b>"), nothing=None) == "&lt;b&gt;<b>"
    with pytest.raises(UndefinedError, match="misspelt"):
        fill("{{ misspelt }}")


@pytest.mark.parametrize("name", ENVIRONMENT.list_templates())
def test_templates_escape_everything_and_quote_every_attribute(name: str) -> None:
    source = files("palate.report").joinpath("templates", name).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", source)
    assert not re.search(r"=\s*\{[{%]", re.sub(r"\{%.*?%\}", "", source))  # an attribute's value without quotes
    assert not re.search(r"<[^>]*\son[a-z]+=", source)
    assert "style=" not in re.sub(r'style="((left|width):\{\{ "%\.[12]f"\|format\(.*?\) \}\}%;?)+"', "", source)


def test_cells_carry_what_they_are_sorted_by() -> None:
    view = TableView("T", ["model", "x"], [[Cell("a", "a"), Cell("1,000", 1000)], [Cell("b", "b"), Cell("-")]])
    page = Page(fill('{% from "tables.html.j2" import table %}{{ table(view) }}', view=view))
    assert [one["data-v"] for one in page.all("td")] == ["1000", ""]
    assert page.all("div", "scroll")[0] == {"class": "scroll", "role": "region", "aria-label": "T", "tabindex": "0"}
    assert [one["scope"] for one in page.all("th")] == ["col", "col", "row", "row"]


def chart(title: str, *lines: Line) -> Page:
    view = line_chart(title, lines, across="epoch")
    return Page(fill('{% from "charts.html.j2" import chart %}{{ chart(view) }}', view=view))


def test_charts_stay_within_their_frame_and_tell_their_story() -> None:
    points = [(1.0, 0.5), (2.0, float("nan")), (3.0, 0.9), (4.0, 0.7)]
    page = chart("Loss <1>", Line("a & b", 9, points, mark=1))
    (line,) = page.all("polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line["points"].split()]
    assert len(places) == 3
    assert all(0 <= x <= 360 and 0 <= y <= 220 for x, y in places)
    assert places[1][1] < places[2][1] < places[0][1]  # the larger, the higher
    (dot,) = page.all("circle")
    assert (float(dot["cx"]), float(dot["cy"])) == places[1]
    assert "a & b: from 0.5 to 0.7, 0.9 where marked" in page.all("svg")[0]["aria-label"]
    assert "dashed" in page.all("g")[0]["class"]
    assert "nothing was logged" in chart("x", Line("a", 0, [])).text
    assert chart("x", Line("a", 0, [(1.0, 2.0)])).all("circle")


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    light, dark = sorted([_luminance(one), _luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_can_be_told_apart_by_everyone() -> None:
    """WCAG AA: 4.5 for text, 3 for lines and dots, in the light and in the dark."""
    light, dark = re.findall(r":root \{(.*?)\}", style(), re.S)[:2]
    for block in (light, dark):
        colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
        for ground in ("page", "card", "sunk"):
            for ink in ("ink", "soft", "link", "good"):
                assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
            for number in range(8):
                assert _contrast(colours[f"c{number}"], colours[ground]) >= 3, (number, ground)
        assert _contrast(colours["bad"], colours["card"]) >= 4.5
        for ground in ("new", "warn-soft"):
            assert _contrast(colours["ink"], colours[ground]) >= 4.5
    assert _contrast("#0a6b45", "#ffffff") >= 4.5  # the badge


def test_the_gallery_draws_from_short_to_long_and_prefers_whom_it_is_told() -> None:
    lengths = np.arange(1, 101)
    histories = Sequences.from_lists([[1] * n for n in lengths])
    cases = Cases(np.arange(100), histories, Sequences.from_lists([[2]] * 100))
    drawn = choose(cases, 5, seed=0)
    assert [int((n - 1) // 20) for n in lengths[drawn]] == [0, 1, 2, 3, 4]  # one of each fifth
    assert (choose(cases, 5, seed=0) == drawn).all()
    assert (choose(cases, 5, seed=1) != drawn).any()
    first = np.zeros(100, bool)
    first[[3, 70]] = True
    mine = choose(cases, 5, seed=0, first=first)
    assert {3, 70} < set(mine.tolist())
    assert len(set(mine.tolist())) == 5
    assert set(choose(cases, 2, seed=0, first=first).tolist()) == {3, 70}
    assert len(choose(cases, 1000, seed=0)) == 100
    assert len(choose(cases, 0, seed=0)) == 0


def _table(*means: float, p: float | None = 0.01) -> dict:
    models = [
        {
            "label": f"m{n}",
            "seeds": [0],
            "metrics": {"ndcg@10": {"mean": mean, "low": mean / 2, "high": mean * 2, "by_seed": [mean]}},
            "differences": {"ndcg@10": {"mean": mean - means[0], "low": 0.0, "high": 1.0, "p": p, "p_holm": p}}
            if n
            else {},
        }
        for n, mean in enumerate(means)
    ]
    data = {"name": "d", "fingerprint": "f"}
    shared = {"name": "product", "protocol": "full", "split": "test", "cases": 9, "dataset": data}
    return {**shared, "base": "m0", "primary": "ndcg@10", "models": models}


def test_the_headline_claims_no_more_than_the_table() -> None:
    def sentence(table: dict) -> str:
        (lead,) = re.findall('<p class="lead">.*?</p>', section(parse_table(table, "t"), {}, "Comparison"), re.S)
        return Page(lead).text

    def headline(*means: float, p: float | None = 0.01) -> str:
        return sentence(_table(*means, p=p))

    assert headline(0.1, 0.3, 0.2).startswith("m1 has the highest NDCG@10: 0.3000; compared with m0: +0.2000")
    assert "chance" not in headline(0.1, 0.3)
    assert "may be chance" in headline(0.1, 0.3, p=0.4)
    assert "p =" not in headline(0.1, 0.3, p=None)
    assert headline(0.3, 0.1, 0.2).startswith("m0 has the highest NDCG@10: 0.3000; m2 comes next, -0.1000")
    # A row outside of the family, such as an oracle, is in the table and is not what the question is about.
    beside = {**_table(0.1, 0.3, 0.9), "family": ["m1"]}
    assert sentence(beside).startswith("m1 has the highest NDCG@10: 0.3000")
    assert headline(0.3) == "m0: NDCG@10 0.3000 [0.1500, 0.6000]."


def test_what_is_no_model_is_left_out_of_what_accuracy_costs() -> None:
    table = _table(0.1, 0.3, 0.9)
    for place, model in enumerate(table["models"]):
        model["metrics"]["coverage@10"] = {"mean": 0.5 + place / 10}

    def drawn(**facts: list[str]) -> list[str]:
        (chart,) = trade_offs(parse_table({**table, **facts}, "t"), {})
        return [line.name for line in chart.lines]

    assert drawn() == ["m0", "m1", "m2"]  # m2 beats the others in both
    table["models"][1]["metrics"]["coverage@10"] = {"mean": 0.4}
    assert drawn(bounds=["m2"]) == ["no model is better in both", "m0", "m1"]


def _with_hits(*hits: tuple[float, float, float], difference: tuple[float, float] | None = None) -> dict:
    """A table with hit rates (mean, low, high) beside the primary metric, which ranks the models alike."""
    table = _table(*(mean for mean, _, _ in hits))
    for model, (mean, low, high) in zip(table["models"], hits, strict=True):
        model["metrics"]["hitrate@10"] = {"mean": mean, "low": low, "high": high, "by_seed": [mean]}
        model["metrics"]["recall@10"] = dict(model["metrics"]["hitrate@10"])
        if difference is not None and model["label"] != "m0":
            low, high = difference
            model["differences"]["hitrate@10"] = {"mean": (low + high) / 2, "low": low, "high": high}
    return table


def test_the_first_sentence_is_for_people_without_metrics() -> None:
    def words(table: dict) -> str:
        return Page(render("in_words.html.j2", words=in_words(parse_table(table, "t")))).text

    low, high = (0.0519, 0.048, 0.0561), (0.1404, 0.1349, 0.1462)
    both = words(_with_hits(low, high))
    assert "14 of 100 customers find their next item among the first ten that m1 recommends; with m0 it is 5." in both
    assert "95% interval: 13 to 15 of 100, for m0 4 to 6. Measured on 9 customers" in both  # rounded outwards
    assert "The best of 2 models, chosen on these customers." in both
    alone = words(_with_hits(high))
    assert "among the first ten that m0 recommends." in alone
    assert "best of" not in alone
    assert "with m0 it is as many." in words(_with_hits((0.139, 0.13, 0.15), high))
    assert "5, a difference that may be chance." in words(_with_hits(low, (0.064, 0.055, 0.07)))  # they overlap
    assert "it is 5." in words(_with_hits(low, (0.064, 0.055, 0.07), difference=(0.004, 0.02)))  # pairs tell them apart
    assert "40 of 1,000 customers" in words(_with_hits((0.002, 0.001, 0.003), (0.04, 0.03, 0.05)))
    several = _with_hits(low, high)
    several["models"][1]["metrics"]["recall@10"]["mean"] = 0.1
    assert "find an item that they took next" in words(several)
    assert "ranked among sampled ones only" in words({**_with_hits(low, high), "protocol": "sampled"})
    assert in_words(parse_table(_table(0.1, 0.2), "t")) is None  # no hit rate


def test_popularity_is_what_the_best_is_set_beside() -> None:
    table = _with_hits((0.05, 0.04, 0.06), (0.14, 0.13, 0.15), (0.02, 0.01, 0.03))
    table["runs"] = {"m2": [{"folder": "x", "model": "popularity", "seed": 0}]}
    sentence = in_words(parse_table(table, "t"))
    assert sentence is not None
    assert sentence.other is not None
    assert (sentence.best.label, sentence.other.label) == ("m1", "m2")


def test_columns_of_many_models_come_in_groups() -> None:
    page = section(parse_table(_table(*(0.1 + n / 100 for n in range(16))), "t"), {}, "Comparison")
    assert re.findall(r"\(models \d+ to \d+ of 16\)", Page(page).text)[:3] == [
        "(models 1 to 6 of 16)",
        "(models 7 to 12 of 16)",
        "(models 13 to 16 of 16)",
    ]


def test_diagnostics_of_an_alignment_are_drawn(neural: Path, shop: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "aligned"
    shutil.copytree(neural, run)
    rows = [
        {
            "epoch": n / 2,
            "step": n,
            "reward_accuracy": 0.5 + n / 10,
            "chosen_drift": -n / 50,
            "rank_1": 0.2,
            "rank_2_5": 0.8,
        }
        for n in (1, 2)
    ]
    told = {"rows": rows, "pool_held_out": 0.001, "warnings": ["<b>fell</b>"]}
    (run / "alignment.json").write_text(json.dumps(told))
    data = Dataset.load(shop)
    table_ = parse_table({**_table(0.1), "dataset": {"name": "d", "fingerprint": data.fingerprint}}, "t")
    groups = group_runs([str(run)])
    write_report(tmp_path / "out", data, groups, [table_], GalleryPlan([], users=0))
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert "alignment" in {one.get("id") for one in page.all("section")}
    assert "<b>fell</b>" in page.text
    assert "80.0%" in page.text
    assert "(looked at after training): aligned 0.1%." in page.text
    assert "Pairs whose chosen item has the higher reward" in page.text
    (run / "alignment.json").write_text("[]")
    with pytest.raises(PalateError, match="is damaged"):
        write_report(tmp_path / "two", data, groups, [table_], GalleryPlan([], users=0))
    assert not (tmp_path / "two").exists()


def test_a_model_that_cannot_answer_costs_the_page_that_model_alone(popular: Path, shop: Path, tmp_path: Path) -> None:
    def gone() -> None:
        raise PalateError("the base model is gone", "Bring it back.")

    data, groups = Dataset.load(shop), group_runs([str(popular)])
    table_ = parse_table({**_table(0.1), "dataset": {"name": "d", "fingerprint": data.fingerprint}}, "t")
    models, notes, _ = gallery_models(groups, None)
    assert notes == []
    plan = GalleryPlan([GalleryEntry("lost", gone), *models], users=2)  # type: ignore[arg-type]
    facts = write_report(tmp_path / "out", data, groups, [table_], plan)
    assert [model["label"] for model in facts["gallery"]["users"][0]["models"]] == ["popular"]
    assert facts["gallery"]["notes"] == ["lost is not in the gallery: the base model is gone. Bring it back."]
