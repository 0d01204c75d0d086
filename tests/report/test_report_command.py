"""`palate report` end to end: the page, its numbers, what it refuses, and that nothing in a catalogue is obeyed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from report_helpers import HOSTILE, Page, read_page

Palate = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(shop: Path, popular: Path, neural: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of both runs, made once."""
    from palate.cli.demo import run_command

    out = tmp_path_factory.mktemp("report") / "out"
    run_command(["report", str(popular), str(neural), "--out", str(out), "--gallery", "12", "--ks", "5,10"])
    return out


def test_the_page_has_every_part_and_its_numbers_are_those_of_the_evaluation(made: Path, palate: Palate) -> None:
    page, facts = read_page(made), json.loads((made / "report.json").read_text())
    ids = {one["id"] for one in page.all("section")}
    assert ids == {"comparison-1", "gallery", "curves", "data", "cost"}  # nothing was aligned
    labels = [model["label"] for model in facts["tables"][0]["models"]]
    assert labels == ["popular", "neural"]
    folders = [run["folder"] for run in facts["runs"]]
    _, told, _ = palate("evaluate", *folders, "--ks", "5,10", "--json")
    for mine, theirs in zip(facts["tables"][0]["models"], json.loads(told)["models"], strict=True):
        assert {n: one["mean"] for n, one in mine["metrics"].items()} == {
            n: one["mean"] for n, one in theirs["metrics"].items()
        }
        assert f"{theirs['metrics']['ndcg@10']['mean']:.4f}" in page.text
    assert facts["dataset"]["users"] == 40
    assert facts["dataset"]["coverage"]["picture"]["items"] == pytest.approx(12 / 13)
    assert len(page.all("table", "sorts")) >= 4
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_gallery_shows_users_their_history_and_what_they_took(made: Path) -> None:
    page, facts = read_page(made), json.loads((made / "report.json").read_text())
    users = facts["gallery"]["users"]
    assert len(users) == 12
    assert len({user["user"] for user in users}) == 12
    lengths = [user["had"] for user in users]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]
    hits = 0
    for user in users:
        assert [model["label"] for model in user["models"]] == ["popular", "neural"]
        target = {item["id"] for item in user["targets"]}
        for model in user["models"]:
            assert 0 < len(model["items"]) <= 5
            assert not {item["id"] for item in model["items"]} & {item["id"] for item in user["history"]}
            assert [item["hit"] for item in model["items"]] == [item["id"] in target for item in model["items"]]
            # The rank that is told is the place in the list, where it is in the list.
            places = [n for n, item in enumerate(model["items"], 1) if item["hit"]]
            assert places == [rank for rank in model["ranks"] if rank <= len(model["items"])]
            hits += len(places)
    assert len(page.all("article", "user")) == 12
    assert len(page.all("li", "hit")) == hits + sum(len(user["targets"]) for user in users)
    assert hits > 0  # the frame was drawn in lists as well


def test_nothing_of_the_catalogue_is_obeyed(made: Path) -> None:
    text, page = (made / "report.html").read_text(encoding="utf-8"), read_page(made)
    shown = json.loads((made / "report.json").read_text())["gallery"]["users"]
    titles = {item["title"] for user in shown for item in [*user["history"], *user["targets"]]}
    assert set(HOSTILE.values()) <= titles  # else this test looks at nothing
    assert [name for name, _ in page.elements].count("script") == 1
    assert [name for name, _ in page.elements].count("h1") == 1
    assert not page.all("i")  # the name of the dataset
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not attributes.get("href", "#").startswith("javascript:")
    for title in (HOSTILE[3], HOSTILE[4], HOSTILE[6], "<i>shop</i>"):
        assert title in page.text
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x00\x1b") & set(text)
    assert "abc\ufffdgnp.exe\ufffd" in page.text


def test_the_page_asks_the_network_for_nothing_and_runs_one_script(made: Path) -> None:
    text, page = (made / "report.html").read_text(encoding="utf-8"), read_page(made)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert "</script" not in script
    assert not page.all("link")
    for name, attributes in page.elements:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(key, "#")[:11] in ("data:image/", "#") or attributes[key].startswith("#"), name
    assert "url(" not in text
    assert "@import" not in text


def test_pictures_are_encoded_anew_and_have_words(made: Path, shop: Path) -> None:
    page, facts = read_page(made), json.loads((made / "report.json").read_text())
    sources = {one["src"] for one in page.all("img")}
    assert len(sources) == facts["pictures"]["shown"] > 5
    for source in sources:
        kind, _, data = source.partition(";base64,")
        raw = base64.b64decode(data, validate=True)
        assert kind == "data:image/webp"
        assert raw[:4] == b"RIFF"
        assert b"polyglot" not in raw
    assert all(one["alt"].startswith("Picture of ") for one in page.all("img"))
    # Broken, missing, a polyglot: a tile with the title instead.
    blanks = {one["aria-label"] for one in page.all("div", "blank")}
    assert {"No picture: Thing 1", "No picture: Thing 2", "No picture: Thing 8"} <= blanks
    assert facts["pictures"]["without"]["cannot be shown"] >= 2
    assert facts["pictures"]["without"]["missing"] >= 1


def test_a_table_made_before_is_shown_without_evaluating(
    popular: Path, neural: Path, palate: Palate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = palate("evaluate", popular, neural, "--out", tmp_path / "table", "--users", 30, "--users-seed", 4)
    assert code == 0, err
    monkeypatch.setattr("palate.evaluation.settings.evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    code, told, err = palate(
        "report", "--table", tmp_path / "table", "--out", tmp_path / "table", "--gallery", 3, "--json"
    )
    assert code == 0, err
    facts, table = json.loads(told), json.loads((tmp_path / "table" / "table.json").read_text())
    assert (
        facts["tables"][0]["models"][1]["metrics"]["ndcg@10"]["mean"]
        == table["models"][1]["metrics"]["ndcg@10"]["mean"]
    )
    assert [run["folder"] for run in facts["runs"]] == [str(popular), str(neural)]
    assert "30 that were evaluated" in facts["gallery"]["info"]
    assert "drawn with seed 4" in read_page(tmp_path / "table").text


def test_a_table_of_other_runs_and_options_that_it_would_not_hear(
    popular: Path, shop: Path, palate: Palate, tmp_path: Path
) -> None:
    run = shutil.copytree(popular, tmp_path / "run")
    assert palate("evaluate", run, "--out", tmp_path / "table", "--users", 30)[0] == 0
    words = ["report", "--table", tmp_path / "table", "--out", tmp_path / "out"]
    for option, value in (("--split", "valid"), ("--primary", "recall@10"), ("--base", "nobody"), ("--ks", "5,10,20")):
        code, _, err = palate(*words, option, value)
        assert code == 2
        assert f"{option} is an option of an evaluation" in err.replace("\n", " ")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"seed": facts["seed"] + 1}))
    code, _, err = palate(*words)
    assert code == 2
    assert "holds another run than the one that was measured" in err.replace("\n", " ")


def test_the_same_call_makes_the_same_page(popular: Path, palate: Palate, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert palate("report", popular, "--out", tmp_path / name, "--gallery", 3, "--seed", 5)[0] == 0
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_mistakes_are_told_before_any_work(
    popular: Path, neural: Path, shop: Path, palate: Palate, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for words, told in (
        ((), "nothing to report on"),
        ((popular, "--split", "train"), "no split 'train'"),
        ((popular, "--primary", "ndgc@10"), "ndgc@10"),
        ((popular, neural, "--base", "nobody"), "nobody"),
        ((popular, "--retriever", neural), "none of the runs needs a retriever"),
        ((popular, "--summaries", "nothing"), "no summaries"),
        (("--table", tmp_path / "gone"), "does not exist"),
        ((tmp_path,), "is not a run"),
    ):
        code, _, err = palate("report", *words, "--out", out)
        assert code == 2, words
        assert told in err.replace("\n", " "), words
        assert not (out / "report.html").exists()
    assert palate("report", popular, "--out", out, "--gallery", 0)[0] == 0
    before = (out / "report.html").read_bytes()
    code, _, err = palate("report", popular, "--out", out)
    assert code == 2
    assert "exists already" in err
    assert (out / "report.html").read_bytes() == before
    assert palate("report", popular, "--out", out, "--gallery", 2, "--overwrite")[0] == 0
    assert (out / "report.html").read_bytes() != before
    assert "article" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.pop("models"),
        lambda t: t.update(models=[]),
        lambda t: t.update(primary="auc"),
        lambda t: t["models"][0].update(label=7),
        lambda t: t["models"][0]["metrics"]["ndcg@10"].update(mean="high"),
        lambda t: t["dataset"].update(fingerprint="of-other-data"),
    ],
)
def test_a_damaged_table_is_one_clear_line(
    made: Path, popular: Path, damage: Callable[[dict], object], palate: Palate, tmp_path: Path
) -> None:
    table = json.loads((made / "report.json").read_text())["tables"][0]
    damage(table)
    (tmp_path / "table.json").write_text(json.dumps(table))
    code, _, err = palate("report", popular, "--table", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert "table" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_hostile_table_is_text(made: Path, popular: Path, palate: Palate, tmp_path: Path) -> None:
    table = json.loads((made / "report.json").read_text())["tables"][0]
    bad = "<script>alert(1)</script>"
    old, table["models"][0]["label"], table["base"] = table["models"][0]["label"], bad, bad
    table["notes"] = [bad]
    table["runs"] = {bad: table["runs"][old]}
    table["slices"] = {bad: {"users": 3, "models": table["models"]}}
    table["costs"] = {bad: {"users": 3, "seconds": 2, "prompts": 9}, "odd": {"users": bad, "seconds": 1}}
    (tmp_path / "table.json").write_text(json.dumps(table))
    code, _, err = palate("report", "--table", tmp_path, "--out", tmp_path / "out", "--gallery", 1)
    assert code == 0, err
    page = read_page(tmp_path / "out")
    assert [name for name, _ in page.elements].count("script") == 1
    assert page.text.count(bad) > 5


def test_a_damaged_log_is_named_with_its_line(neural: Path, palate: Palate, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(neural, copy)
    with (copy / "metrics.jsonl").open("a") as file:
        file.write("{broken\n")
    code, _, err = palate("report", copy, "--out", tmp_path / "out")
    assert code == 2
    assert "metrics.jsonl, line" in err


def test_page_of_the_helper_sees_what_a_browser_sees() -> None:
    assert Page("<p>a &lt;b&gt;</p>").text == "a <b>"
    assert Page("<p><script>x</script></p>").all("script") == [{}]
