"""A package of a user adds a part of each kind, two of them losses: the code of docs/extending.md.

The package is what pip would leave in site-packages: modules and a ``.dist-info`` with its entry points.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.errors import PalateError
from palate.evaluation.candidates import Candidates

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
PARTS = {
    "objectives": "hardest",
    "preferences": "hinge",
    "rankers": "markov",
    "fusions": "product",
    "negatives": "long-tail",
    "readers": "baskets",
    "metrics": "bullseye",
    "families": "acme_vl",
    "backends": "recorded",
}


def install(site: Path) -> None:
    """Write the page's files and entry points as an installed package."""
    blocks = re.findall(r"^```(python|toml)\n# (\S+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    files = {name: code for _, name, code in blocks}
    entry_points = tomllib.loads(files.pop("pyproject.toml"))["project"]["entry-points"]
    assert {group.removeprefix("palate."): next(iter(names)) for group, names in entry_points.items()} == PARTS
    for name, code in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    (site / "acme_palate" / "__init__.py").touch()
    info = site / "acme_palate-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-palate\nVersion: 1.0\n")
    lines = (
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items())
        for group, names in entry_points.items()
    )
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    install(folder)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users who walk round eight items: what comes next is certain, so a Markov chain is right every time."""
    path = tmp_path_factory.mktemp("shop") / "shop.jsonl"
    walks = ({"user": f"u{u}", "items": [f"i{(u + s) % 8}" for s in range(6)]} for u in range(24))
    path.write_text("".join(json.dumps(walk) + "\n" for walk in walks))
    return path


def palate(site: Path, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The command line of a machine where the plug-in is installed."""
    return subprocess.run(
        [sys.executable, "-m", "palate", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=check,
    )


def test_the_parts_are_listed(site: Path) -> None:
    listed = json.loads(palate(site, "models", "--json").stdout)
    for kind, name in PARTS.items():
        if kind == "families":  # rows of figures, of which there is nothing to choose
            continue
        assert name in listed[kind], f"`palate models` does not list the {kind[:-1]} '{name}'"
        assert "cannot be loaded" not in listed[kind][name]
        assert len(listed[kind]) > 1, "the built-in ones stand beside it"


def test_the_whole_way_with_all_of_them(site: Path, shop: Path, tmp_path: Path) -> None:
    data, markov, hardest = tmp_path / "data", tmp_path / "markov", tmp_path / "hardest"
    palate(site, "prepare", shop, "--reader", "baskets", "--out", data)
    palate(site, "train", data, "--model", "markov", "--set", "ranker.smoothing=0.001", "--out", markov)
    settings = ("--set", "objective.margin=0.5", "--set", "ranker.dim=16", "--epochs", 1)
    palate(site, "train", data, "--model", "sasrec", "--objective", "hardest", *settings, "--out", hardest)
    row = json.loads((hardest / "metrics.jsonl").read_text().splitlines()[0])
    assert 0 <= row["satisfied"] <= 1  # the loss's own diagnostic
    aligned = tmp_path / "aligned"
    settings = ("--objective", "hinge", "--beta", 0.5, "--negatives", "long-tail", "--epochs", 1)
    palate(site, "align", hardest, *settings, "--out", aligned)
    row = json.loads((aligned / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= row["satisfied"] <= 1
    assert 0 <= row["reward_accuracy"] <= 1
    words = ("--metrics", "bullseye,ndcg", "--keep-seen", "--out", tmp_path / "evaluation")
    palate(site, "evaluate", markov, hardest, *words)
    table = (tmp_path / "evaluation" / "table.md").read_text()
    assert "Bullseye" in table
    best = json.loads(palate(site, "recommend", markov, "--history", "i2,i3", "--k", 1, "--json").stdout)
    assert best["items"][0]["item"] == "i4"
    # i7 -> i0 -> i1 ... : the chain knows every next item, so each target comes in first.
    results = json.loads((tmp_path / "evaluation" / "table.json").read_text())
    means = {row["label"]: row["metrics"]["bullseye"]["mean"] for row in results["models"]}
    assert means["markov"] == 1.0
    assert 0 <= means["hardest"] <= 1


def test_a_ranker_of_a_plug_in_brings_its_own_training_step(site: Path, shop: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    palate(site, "prepare", shop, "--reader", "baskets", "--out", data)
    apart = {}
    for weight in (0, 10):
        words = ("--epochs", 4, "--set", "ranker.dim=16", "--set", "trainer.learning_rate=0.01")
        out = tmp_path / f"run-{weight}"
        palate(site, "train", data, "--model", "agree", "--set", f"ranker.agreement={weight}", *words, "--out", out)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        apart[weight] = rows[-1]["apart"]
    assert (
        0 < apart[10] < apart[0]
    )  # two passes of one weight differ by their dropout, and less where that is minimised
    best = json.loads(palate(site, "recommend", out, "--history", "i2,i3", "--k", 3, "--json").stdout)
    assert len(best["items"]) == 3
    # Rows of items are for the usual step alone.
    rows_only = ("--objective", "bpr", "--set", "trainer.item_rows=always")
    refused = palate(site, "train", data, "--model", "agree", *rows_only, "--out", tmp_path / "rows", check=False)
    assert "the ranker 'agree' is trained by a step of its own" in refused.stderr


def test_a_fusion_of_a_plug_in_makes_a_run_and_a_bundle(site: Path, shop: Path, tmp_path: Path) -> None:
    data, run, bundle, larger = (tmp_path / name for name in ("data", "run", "bundle", "larger"))
    palate(site, "prepare", shop, "--reader", "baskets", "--out", data)
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "ids.txt").write_text("".join(f"i{n}\n" for n in range(8)))
    words = ("--matrix", tmp_path / "vectors.npy", "--ids", tmp_path / "ids.txt", "--modality", "text")
    palate(site, "encode", data, *words, "--name", "mine")
    words = ("--model", "sasrec", "--modalities", "id,text", "--epochs", 1, "--set", "ranker.dim=16")
    palate(site, "train", data, *words, "--set", "ranker.fusion=product", "--out", run)
    assert "items.bend.weight" in (run / "model" / "weights.safetensors").read_bytes()[:10_000].decode("latin-1")
    best = json.loads(palate(site, "recommend", run, "--history", "i2,i3", "--k", 3, "--json").stdout)
    assert len(best["items"]) == 3
    palate(site, "bundle", run, "--out", bundle)
    outcome = palate(site, "train", data, *words, "--set", "ranker.fusion=produkt", "--out", larger, check=False)
    assert outcome.returncode == 2
    assert "there is no fusion named 'produkt'. Did you mean 'product'?" in outcome.stderr
    outcome = palate(tmp_path, "recommend", bundle, "--history", "i2,i3", check=False)  # the package is not there
    assert outcome.returncode == 2
    assert "there is no fusion named 'product'" in outcome.stderr


def test_a_backend_of_a_plug_in_writes_summaries(site: Path, shop: Path, tmp_path: Path) -> None:
    data, answers = tmp_path / "data", tmp_path / "answers.json"
    palate(site, "prepare", shop, "--reader", "baskets", "--out", data)
    answers.write_text(json.dumps({f'"i{n}"': f"A thing that is number {n} in the shop." for n in range(8)}))
    words = ("summarise", "items", data, "--source", "text", "--backend", "recorded", "--name", "mine")
    assert "recorded" in palate(site, "summarise", "items", "--help").stdout
    palate(site, *words, "--model", answers)
    rows = [json.loads(row) for row in (data / "summaries/items/mine/summaries.jsonl").read_text().splitlines()]
    assert {row["item"]: row["text"] for row in rows} == {
        f"i{n}": f"A thing that is number {n} in the shop." for n in range(8)
    }
    refused = palate(site, *words, "--model", answers, "--device", "cuda", check=False)
    assert refused.returncode == 2
    assert "the backend 'recorded' has no option --device" in refused.stderr
    refused = palate(site, *words[:-3], "recordet", "--name", "mine", check=False)
    assert refused.returncode == 2
    assert "there is no backend named 'recordet'. Did you mean 'recorded'?" in refused.stderr


def test_a_family_of_a_plug_in_decides_how_its_models_are_read(
    site: Path, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from palate.mllm.lm.chat_model import ChatModel
    from palate.mllm.lm.families import Family, family_of
    from palate.mllm.lm.loading import open_model
    from palate.mllm.lm.reasoning import answer_text
    from palate.mllm.prompts.chat import Chat, Picture

    assert family_of("acme_vl") == Family()
    assert answer_text("<ponder>Red?</ponder> Likes red.") == "<ponder>Red?</ponder> Likes red."
    monkeypatch.syspath_prepend(str(site))
    assert answer_text("<ponder>Red?</ponder> Likes red.") == "Likes red."
    opened = open_model(str(tiny("llava")))
    opened.core.config.model_type = "acme_vl"
    shown: list[Any] = []
    plain = type(opened.processor).__call__

    def processor(self: Any, images: Any = None, **options: Any) -> Any:
        shown.append(images)
        return plain(self, images=images, **options)

    monkeypatch.setattr(type(opened.processor), "__call__", processor)
    model = ChatModel("acme", opened.core, opened.processor, fingerprint="")
    model.encode(Chat((Picture(None), "or", Picture(None), "?")))
    opened.encode(Chat((Picture(None), "?")))
    nested, flat = shown
    assert [len(images) for images in nested] == [2]
    assert len(flat) == 1
    assert not isinstance(flat[0], list)
    assert not model.traits.separate_images
    assert opened.traits.separate_images


def test_a_negative_strategy_of_a_plug_in_draws_in_losses_and_candidates(
    site: Path, shop: Path, tmp_path: Path
) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "evaluation"
    palate(site, "prepare", shop, "--reader", "baskets", "--out", data)
    settings = ("--set", "objective.negatives=long-tail", "--set", "ranker.dim=16", "--epochs", 1)
    palate(site, "train", data, "--model", "sasrec", "--objective", "bpr", *settings, "--out", run)
    words = ("evaluate", run, "--protocol", "sampled", "--negatives", 2, "--ks", 1)
    palate(site, *words, "--candidates", "long-tail", "--out", out)
    assert Candidates.load(out / "candidates.npz").facts["kind"] == "long-tail"
    info = palate(site, *words, "--candidates", "long-tale", check=False)
    assert info.returncode == 2
    assert "--candidates long-tale: no such way" in info.stderr
    assert "Did you mean 'long-tail'?" in info.stderr


def test_a_wrong_option_of_a_plug_in_is_reported_like_any_other(site: Path, shop: Path, tmp_path: Path) -> None:
    palate(site, "prepare", shop, "--reader", "baskets", "--out", tmp_path / "data")
    words = ("--model", "sasrec", "--objective", "hardest", "--set", "objective.margn=2", "--out", tmp_path / "run")
    outcome = palate(site, "train", tmp_path / "data", *words, check=False)
    assert outcome.returncode == 2
    assert "Did you mean 'margin'?" in outcome.stderr


def test_without_the_package_the_names_are_unknown(shop: Path, tmp_path: Path) -> None:
    outcome = palate(tmp_path, "prepare", shop, "--reader", "baskets", "--out", tmp_path / "data", check=False)
    assert outcome.returncode == 2
    assert "there is no reader named 'baskets'" in outcome.stderr


def test_a_plug_in_may_not_take_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "impostor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: impostor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[palate.metrics]\nndcg = math:pi\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from palate.evaluation.metrics import METRICS

    with pytest.raises(PalateError, match=r"'math:pi' takes the name of the built-in metric 'ndcg'"):
        METRICS["ndcg"]
