"""Every command of the papers' own recipes runs, in order, on tiny models of their families."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("trl")

from paper_helpers import commands_of, llava_next_mistral, raw_microlens, raw_ml_100k, replaced

from palate.experiments import runner
from palate.runs.run import Run
from palate.storage.files import read_json
from palate.storage.toml import read_toml, write_tables

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
# Words of every warning that something else is done than what the recipe says.
FALLS_BACK = re.compile(r"slower|instead|moves pictures|going on with|cut off")
Palate = Callable[..., tuple[int, str, str]]


class Here:
    """Runs a comparison's commands in this process: quicker than a process for each."""

    def __init__(self, *_: Any) -> None:
        pass

    async def __call__(self, words: Sequence[str], log: Path) -> int:
        from palate.cli.commands import build

        log.parent.mkdir(parents=True, exist_ok=True)
        build()(list(words), standalone_mode=False)
        return 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Random weights write no sentences, and charts have tests of their own."""
    monkeypatch.setattr("palate.mllm.summaries.work.check_summary", lambda text: None if text.strip() else "empty")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: Path(path).touch())
    monkeypatch.setattr(runner, "Processes", Here)
    monkeypatch.chdir(tmp_path)


def run_all(palate: Palate, name: str, values: dict[str, Any]) -> str:
    """Run every command of a recipe with other ``values`` in it, from this folder; returns what they printed."""
    folder = Path("recipes")
    folder.mkdir()
    (folder / f"{name}.toml").write_text(write_tables(replaced(read_toml(RECIPES / f"{name}.toml"), values)))
    printed = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        for words in commands_of(RECIPES / f"{name}.toml"):
            code, out, err = palate(*words)
            assert code == 0, f"palate {' '.join(words)}: {out} {err}"
            printed += [out, err]
    said = [*printed, *(str(one.message) for one in caught)]
    assert not [text for text in said if FALLS_BACK.search(text)]
    return "\n".join(printed)


def test_msr(palate: Palate, tiny: Callable[[str], Path]) -> None:
    raw_microlens(Path("microlens"))
    llava = str(llava_next_mistral(Path("llava").resolve()))
    printed = run_all(
        palate,
        "msr-paper",
        {
            "summarise.items.model": llava,
            "summarise.items.max-new-tokens": 8,
            "summarise.users.model": str(tiny("llama")),
            "summarise.users.max-new-tokens": 8,
            "summarise.users.users": 20,
            "mllm.sft.model": llava,
            "mllm.sft.users": 20,
            "mllm.sft.epochs": 1,
            "evaluate.users": 20,
            "evaluate.negatives": 4,
        },
    )
    assert "24 of 24 items have a summary" in printed
    assert printed.count("20 of 20 cut-offs of 20 users have a summary") == 2
    run = Run.open("runs/msr-paper/recurrent").info["options"]
    prompt = run["mllm"]["prompt"]
    assert (prompt["summary"], prompt["images"]) == ("recurrent", "candidate")
    assert (run["lora"]["r"], run["lora"]["alpha"], run["trainer"]["schedule"]) == (16, 32, "constant")


def test_hanorec(palate: Palate, tiny: Callable[[str], Path]) -> None:
    raw_ml_100k(Path("ml-100k"))
    run_all(
        palate,
        "hanorec-paper",
        {
            "compare.seeds": [0],
            "mllm.sft.model": str(tiny("qwen2.5-vl")),
            "mllm.sft.epochs": 1,
            "mllm.sft.cutoffs": 1,
            "mllm.align.epochs": 1,
            "evaluate.users": 8,
            "evaluate.negatives": 4,
        },
    )
    rows = [row["label"] for row in read_json(Path("runs/hanorec-paper/test/table.json"))["models"]]
    assert rows == list(read_toml(RECIPES / "hanorec-paper.toml")["arm"])
    run = Run.open("runs/hanorec-paper/runs/hanorec-0").info["options"]
    prompt, preference = run["mllm"]["prompt"], run["alignment"]["preference"]
    assert (prompt["images"], prompt["history_images"], run["alignment"]["pairs"]["kind"]) == ("history", 5, "answer")
    assert (preference["noise"], preference["sigma"], preference["beta"]) == ("lora", 0.1, 0.1)
    assert (preference["hardness"], preference["responsiveness"]) == ("as-written", "as-released")
