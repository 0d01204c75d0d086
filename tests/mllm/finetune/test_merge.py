"""Merging: adapter, merged and reloaded models score alike, and the folder needs neither PEFT nor the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from sft_helpers import tiny_settings
from typer.testing import CliRunner
from worlds import two_tastes

from palate.cli.llm.merge import merge as merge_command
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.alignment.align import align_mllm
from palate.mllm.finetune.merge import FACTS, merge_run
from palate.mllm.finetune.sft import fine_tune
from palate.mllm.lm.loading import merge_adapter, open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.recommender import MLLMRecommender
from palate.mllm.zero_shot import zero_shot
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.storage.files import file_digest, read_json, write_json

pytest.importorskip("trl")

Tiny = Callable[[str], Path]
PICTURES = {"llama": "none", "llava": "both", "qwen2.5-vl": "candidate"}
CLOSE = 1e-4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tastes(tmp_path_factory.mktemp("tastes"))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def runs(dataset: Dataset, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Run]:
    """A fine-tuned run of a family, aligned several times in a row."""
    made: dict[tuple[str, int], Run] = {}

    def of(family: str, aligned: int = 0) -> Run:
        if (family, aligned) not in made:
            out = tmp_path_factory.mktemp("run") / f"{family}-{aligned}"
            made[family, aligned] = align(of(family, aligned - 1), out) if aligned else tune(family, out)
        return made[family, aligned]

    def tune(family: str, out: Path) -> Run:
        settings = tiny_settings(
            tiny(family),
            prompt={"images": PICTURES[family]},
            trainer={"loss": "options", "learning_rate": 1e-2, "keep": "last"},
        )
        return fine_tune(dataset, out=out, settings=settings, dataset_path=dataset.folder)

    def align(run: Run, out: Path) -> Run:
        trainer = {"learning_rate": 1e-2, "keep": "last", "batch_size": 2, "accumulation": 1, "warmup_ratio": 0.0}
        return align_mllm(run, out=out, settings={"trainer": trainer}, dataset=dataset, device="cpu")

    return of


def scores(recommender: Any, dataset: Dataset) -> torch.Tensor:
    return recommender.score(dataset.cases("test").histories[:3], torch.arange(1, 9).repeat(3, 1))


def with_model(run: Run, model: Any) -> MLLMRecommender:
    """A run's recommender around another language model."""
    made = load_recommender(run)
    assert isinstance(made, MLLMRecommender)
    return MLLMRecommender(model, made.prompter, made.preferences, made.config)


@pytest.mark.parametrize(
    ("family", "aligned"), [("llama", 0), ("llama", 1), ("llama", 2), ("llava", 0), ("llava", 1), ("qwen2.5-vl", 0)]
)
def test_adapter_merged_and_reloaded_score_alike(
    runs: Callable[..., Run], dataset: Dataset, tiny: Tiny, tmp_path: Path, family: str, aligned: int
) -> None:
    run = runs(family, aligned)
    own = scores(load_recommender(run), dataset)
    in_memory = load_recommender(run)
    in_memory.model.model = merge_adapter(in_memory.model.model, "adapter")  # type: ignore[attr-defined]
    out = merge_run(run, tmp_path / "model")
    reloaded = with_model(run, open_model(str(out)))
    assert not hasattr(reloaded.model.model, "peft_config")
    prompt = {"history_items": 3, "images": PICTURES[family]}
    plain = zero_shot(
        dataset,
        out=tmp_path / "run",
        settings={"model": {"name": str(out), "dtype": "float32"}, "prompt": prompt},
        dataset_path=dataset.folder,
    )
    for other in (in_memory, reloaded, load_recommender(plain)):
        torch.testing.assert_close(scores(other, dataset), own, atol=CLOSE, rtol=0)
    # What it is compared with is not what it would be without its adapters, nor without the last of them.
    base = scores(with_model(run, open_model(str(tiny(family)))), dataset)
    assert (own - base).abs().max() > 100 * CLOSE
    if aligned:
        assert (own - scores(load_recommender(runs(family, aligned - 1)), dataset)).abs().max() > 100 * CLOSE


def test_it_says_what_it_is_made_of(runs: Callable[..., Run], dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    run = runs("llama", 2)
    out = merge_run(run, tmp_path / "model")
    facts = read_json(out / FACTS)
    assert facts["run"] == str(run.folder.resolve())
    assert facts["dataset"]["fingerprint"] == dataset.fingerprint
    assert facts["base"]["fingerprint"] == open_model(str(tiny("llama"))).fingerprint
    assert facts["fingerprint"] == open_model(str(out)).fingerprint != facts["base"]["fingerprint"]
    folders = ["model/merged/0", "model/merged/1", "model/adapter"]
    assert [one["folder"] for one in facts["adapters"]] == folders
    assert [one["weights"] for one in facts["adapters"]] == [
        file_digest(run.folder / one / "adapter_model.safetensors") for one in folders
    ]
    assert len({one["weights"] for one in facts["adapters"]}) == 3
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1
    # Of the base model's files, everything but the weights is as it was; nothing of the adapters is left.
    names = {path.name for path in tiny("llama").iterdir()}
    assert {path.name for path in out.iterdir()} == names | {FACTS}
    assert (out / "tokenizer.json").read_bytes() == (tiny("llama") / "tokenizer.json").read_bytes()


def test_transformers_loads_it_without_palate_or_peft(runs: Callable[..., Run], tmp_path: Path) -> None:
    out = merge_run(runs("llava"), tmp_path / "model")
    script = f"""
import sys
sys.modules["peft"] = sys.modules["palate"] = None
from transformers import AutoModelForImageTextToText, AutoProcessor
model, report = AutoModelForImageTextToText.from_pretrained({str(out)!r}, output_loading_info=True)
assert not report["missing_keys"] and not report["unexpected_keys"], report
text = AutoProcessor.from_pretrained({str(out)!r}).apply_chat_template([{{"role": "user", "content": "hm"}}])
assert "hm" in text
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_precision(runs: Callable[..., Run], tmp_path: Path) -> None:
    """The sum is made in fp32 and rounded once."""
    exact = load_file(merge_run(runs("llama", 1), tmp_path / "exact") / "model.safetensors")
    half = load_file(merge_run(runs("llama", 1), tmp_path / "half", dtype="bfloat16") / "model.safetensors")
    assert read_json(tmp_path / "half/config.json")["dtype"] == read_json(tmp_path / "half" / FACTS)["dtype"]
    assert exact.keys() == half.keys()
    for name, value in exact.items():
        assert value.dtype == torch.float32
        assert torch.equal(value.to(torch.bfloat16), half[name]), name


def test_a_half_precision_run_is_merged_in_full(runs: Callable[..., Run], tmp_path: Path) -> None:
    """In bfloat16 an adapter added to rounded weights is rounded once; with float32 not at all."""
    run = copy_of(runs("llama"), tmp_path / "run")
    facts = read_json(run.model_folder / "config.json")
    facts["config"]["base"]["dtype"] = "bfloat16"
    write_json(run.model_folder / "config.json", facts)
    base = load_file(Path(facts["config"]["base"]["name"]) / "model.safetensors")
    before = load_file(merge_run(runs("llama"), tmp_path / "before") / "model.safetensors")
    half = load_file(merge_run(run, tmp_path / "half") / "model.safetensors")
    whole = load_file(merge_run(run, tmp_path / "whole", dtype="float32") / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = base[name].to(torch.bfloat16).float() + (before[name] - base[name])
    torch.testing.assert_close(whole[name], expected, atol=1e-6, rtol=0)
    assert half[name].dtype == torch.bfloat16
    assert torch.equal(half[name], whole[name].to(torch.bfloat16))


def copy_of(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder)
    return Run.open(folder)


def change(run: Run, **base: Any) -> None:
    facts = read_json(run.model_folder / "config.json")
    facts["config"]["base"].update(base)
    write_json(run.model_folder / "config.json", facts)


def test_what_cannot_be_merged_is_refused(
    runs: Callable[..., Run], dataset: Dataset, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(run: Run, words: str, **more: Any) -> None:
        with pytest.raises(PalateError, match=words):
            merge_run(run, tmp_path / "out", **more)
        assert not [path for path in tmp_path.iterdir() if "out" in path.name]  # nor half of it

    run = runs("llama")
    plain = zero_shot(dataset, out=tmp_path / "plain", settings={"model": {"name": str(tiny("llama"))}})
    refused(plain, "has no adapter: there is nothing to merge")
    refused(run, "'float23' is no precision", dtype="float23")
    refused(run, "'auto' is no precision", dtype="auto")
    refused(Run(run.folder, {**run.info, "finished": False}), "is not finished")
    refused(Run(run.folder, {**run.info, "model": "sasrec"}), "a run of 'sasrec', not of a language model")
    other = copy_of(run, tmp_path / "4bit")
    change(other, quantisation="4bit")
    refused(other, r"is quantised \(in 4bit\)")
    foreign = copy_of(run, tmp_path / "foreign")
    change(foreign, trust_remote_code=True)
    monkeypatch.delenv("PALATE_TRUST_REMOTE_CODE", raising=False)
    refused(foreign, "wants to run code that the model")
    monkeypatch.setenv("PALATE_TRUST_REMOTE_CODE", "1")
    assert merge_run(foreign, tmp_path / "agreed").is_dir()
    strange = copy_of(run, tmp_path / "strange")
    change(strange, fingerprint="0" * 16)
    refused(strange, "another model than the one")
    with pytest.raises(PalateError, match="no name of a new folder"):
        merge_run(run, ".")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    with pytest.raises(PalateError, match="exists already"):
        merge_run(run, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_weights_too_large_for_float16_are_refused(runs: Callable[..., Run], tmp_path: Path) -> None:
    run = copy_of(runs("llama"), tmp_path / "run")
    path = run.model_folder / "adapter" / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["lora_alpha"] = 1e9
    path.write_text(json.dumps(settings))
    with pytest.raises(PalateError, match="not finite in float16"):
        merge_run(run, tmp_path / "out", dtype="float16")
    assert [one.name for one in tmp_path.iterdir()] == ["run"]


def test_on_the_command_line(runs: Callable[..., Run], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("merge")(merge_command)
    app.command("other")(lambda: None)
    words = ["merge", str(runs("llama").folder), "--out", str(tmp_path / "model"), "--dtype", "bfloat16"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "palate mllm zero-shot DATASET --model" in done.output
    assert open_model(ModelOptions(name=str(tmp_path / "model"), dtype="bfloat16")).core.dtype == torch.bfloat16
