"""``palate bundle`` and ``palate add-items``, and the commands that take a bundle for a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from worlds import HELD_OUT_FILM

from palate.runs.run import Run

Outcome = tuple[int, str, str]


def test_bundle_recommend_add_items(palate: Callable[..., Outcome], full_run: Run, films: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    code, out, _ = palate("bundle", full_run.folder, "--out", bundle, "--with-images", "--license", "mit", "--json")
    assert code == 0
    assert json.loads(out)["items"] == 23
    for place in (full_run.folder, bundle):
        assert palate("recommend", place, "--history", "space-1,nothing", "-k", 3, "--json")[0] == 0
    first = json.loads(palate("recommend", full_run.folder, "--history", "space-1", "--json")[1])
    assert json.loads(palate("recommend", bundle, "--history", "space-1", "--json")[1]) == first
    code, out, err = palate("recommend", bundle, "--history", "space-1,space-99", "--only", "tags=love")
    assert code == 0
    assert "no item 'space-99'" in err
    code, out, _ = palate("info", bundle, "--json")
    assert json.loads(out)["kind"] == "bundle"
    assert json.loads(out)["license"] == "mit"
    (tmp_path / "new.csv").write_text(
        f"item_id,title,tags,image\n{HELD_OUT_FILM},space story 7,space|film,{HELD_OUT_FILM}.png\n"
    )
    larger = tmp_path / "larger"
    pictures = films.parent / "pictures"
    code, out, err = palate("add-items", bundle, tmp_path / "new.csv", "--images", pictures, "--out", larger)
    assert code == 0, err
    assert "1 item added: 1 with text, 1 with image" in out
    code, out, _ = palate("recommend", larger, "--history", "space-1,space-2,space-3", "--json")
    assert HELD_OUT_FILM in [row["item"] for row in json.loads(out)["items"]]


def test_users_need_a_dataset(palate: Callable[..., Outcome], text_bundle: Path, films: Path) -> None:
    code, _, err = palate("recommend", text_bundle, "--user", "u1")
    assert (code, "Give --dataset" in err) == (2, True)
    assert palate("recommend", text_bundle, "--user", "u1", "--dataset", films)[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Give --out DIR"),
        (("--out", "x", "--public"), "--public belongs to --push"),
        (("--out", "x", "--push", "nowhere"), "is no name of a repository"),
        (("--out", "x", "--license", "my own"), "no identifier of a license"),
        (("--out", "x", "--table", "nothing"), "holds no table.json"),
    ],
)
def test_mistakes_are_one_line(
    palate: Callable[..., Outcome],
    text_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = palate("bundle", text_run.folder, *words)
    assert code == 2
    assert told in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_bundle_can_only_be_pushed(
    palate: Callable[..., Outcome], text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = palate("bundle", text_bundle, "--out", tmp_path / "x")
    assert (code, "is a bundle already" in err) == (2, True)
    from palate.bundle import hub

    asked = []
    monkeypatch.setattr(
        hub, "push", lambda folder, repo, private: asked.append((folder, repo, private)) or f"hf://{repo}"
    )
    monkeypatch.setattr(hub, "check_push", lambda repo: None)
    code, out, _ = palate("bundle", text_bundle, "--push", "shop/taste")
    assert code == 0
    assert "Pushed: hf://shop/taste" in out
    assert asked == [(text_bundle, "shop/taste", True)]
