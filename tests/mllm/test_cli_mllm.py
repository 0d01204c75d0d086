"""``palate mllm`` as a person meets it: summaries, fine-tuning, evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flaky_server import FlakyServer, Payload, prompt_of, running
from worlds import two_tastes

from palate.mllm.recommender import MLLMRecommender
from palate.runs.run import Run

pytest.importorskip("openai")
Palate = Callable[..., tuple[int, str, str]]
Tiny = Callable[[str], Path]
FEW = ["--users", 4, "--cutoffs", 1, "--batch-size", 4, "--device", "cpu", "--set", "trainer.validations_per_epoch=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tastes")
    two_tastes(folder)
    return folder / "dataset"


def test_fine_tuned_and_evaluated_beside_popularity(palate: Palate, data: Path, tiny: Tiny, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = palate(
        *("mllm", "sft", data, "--model", tiny("llava"), "--dtype", "float32", "--out", run, *FEW),
        *("--images", "both", "--missing-image", "blank", "--history-items", 3, "--lora-r", 4, "--lora-dropout", 0),
        *("--train-projector", "--gradient-checkpointing", "--negatives", "popularity", "--learning-rate", 1e-3),
    )
    assert code == 0, err
    assert "Best validation at epoch" in out
    assert "1 picture could not be shown" in err  # items/8.png
    assert err.count("epoch 0.00") == err.count("epoch 1.00") == 1
    info = Run.open(run).info
    assert info["options"]["lora"] == {"r": 4, "alpha": 16.0, "dropout": 0.0, "projector": True}
    assert info["options"]["examples"]["negatives"] == "popularity"
    assert info["options"]["mllm"]["prompt"]["missing_image"] == "blank"
    assert palate("train", data, "--model", "popularity", "--out", tmp_path / "popularity")[0] == 0
    code, out, err = palate(
        *("evaluate", tmp_path / "popularity", run, "--protocol", "sampled", "--negatives", 4, "--users", 6),
        *("--out", tmp_path / "table"),
    )
    assert code == 0, err
    assert "mllm" in out or "run" in out
    code, out, err = palate("info", run)
    assert code == 0


def test_summaries_from_writing_to_scoring(palate: Palate, data: Path, tiny: Tiny, tmp_path: Path) -> None:
    def write(payload: Payload) -> str:
        return f"Likes {'red' if 'Red' in prompt_of(payload) else 'blue'} and simple things, and nothing else at all."

    words = ["mllm", "sft", data, "--model", tiny("llama"), "--summary", "recurrent", "--summaries", "taste", *FEW]
    words += ["--out", tmp_path / "run"]
    code, _, err = palate(*words)
    assert code == 2
    assert "summaries/users/taste" in err
    with running(FlakyServer(write)) as server:
        ask = ["summarise", "users", data, "--backend", "openai", "--model", "tiny", "--base-url", server.url]
        ask += ["--name", "taste", "--cutoffs", 1, "--users", 4]
        assert palate(*ask, "--as-of", "valid,test")[0] == 0
        code, _, err = palate(*words)
        assert code == 2
        assert "4 of 4 histories have no written preference" in err
        assert "palate summarise users" in err
        assert not (tmp_path / "run").exists()
        assert palate(*ask, "--as-of", "train")[0] == 0
        requests = len(server.payloads)
    code, _, err = palate(*words)
    assert code == 0, err
    assert len(server.payloads) == requests
    stored = [json.loads(line)["text"] for line in (tmp_path / "run/model/summaries.jsonl").read_text().splitlines()]
    assert any("red" in text for text in stored)
    assert Run.open(tmp_path / "run").info["made_from"]["summaries"] == "taste"
    code, _, err = palate(
        "mllm", "sft", data, "--model", tiny("llama"), "--summary", "direct", *words[7:-1], tmp_path / "2"
    )
    assert code == 2
    assert "are recurrent, not direct" in err


def test_zero_shot_and_blind(palate: Palate, data: Path, tiny: Tiny, tmp_path: Path) -> None:
    words = ["mllm", "zero-shot", data, "--model", tiny("llama"), "--device", "cpu"]
    code, out, err = palate(*words, "--task", "choose", "--blind", "--out", tmp_path / "blind")
    assert code == 0, err
    assert "palate evaluate" in out
    run = Run.open(tmp_path / "blind")
    assert run.finished
    assert not (run.model_folder / "adapter").exists()
    prompt = run.info["options"]["mllm"]["prompt"]
    assert (prompt["task"], prompt["blind"]) == ("choose", True)
    code, _, err = palate("evaluate", run.folder, "--protocol", "sampled", "--negatives", 4, "--users", 5)
    assert code == 0, err


def test_items_by_what_was_written_of_their_pictures_alone(
    palate: Palate, data: Path, tiny: Tiny, tmp_path: Path
) -> None:
    with running(FlakyServer(lambda _: "Red, round.")) as server:
        ask = ["--backend", "openai", "--model", "tiny", "--base-url", server.url, "--name", "looks"]
        assert palate("summarise", "items", data, *ask)[0] == 0
    words = ["mllm", "zero-shot", data, "--model", tiny("llama"), "--device", "cpu", "--item-summaries", "looks"]
    words += ["--item-text", "none", "--history-text", "none", "--set", "prompt.history_summaries=true"]
    code, _, err = palate(*words, "--out", tmp_path / "looks")
    assert code == 0, err
    prompter = MLLMRecommender.load(Run.open(tmp_path / "looks").model_folder).prompter
    text = prompter.yes_no([1, 2], 3).text
    assert text.count('"Red, round."') == 3
    assert not any(prompter.items.title(item) in text for item in (1, 2, 3))
    code, _, err = palate("evaluate", tmp_path / "looks", "--protocol", "sampled", "--negatives", 2, "--users", 2)
    assert code == 0, err


def test_summaries_of_what_a_few_users_took_do_not_show_candidates(
    palate: Palate, data: Path, tiny: Tiny, tmp_path: Path
) -> None:
    """The targets would be described and most negatives not: that alone would tell them apart."""
    with running(FlakyServer(lambda _: "Red, round.")) as server:
        ask = ["--backend", "openai", "--model", "tiny", "--base-url", server.url, "--name", "few", "--users", 1]
        assert palate("summarise", "items", data, *ask)[0] == 0
    words = ["mllm", "zero-shot", data, "--model", tiny("llama"), "--device", "cpu", "--item-summaries", "few"]
    code, _, err = palate(*words, "--out", tmp_path / "run")
    assert code == 2
    assert "21 of 29 items that could be described have no summary in 'few'" in err


def test_a_recipe(palate: Palate, data: Path, tiny: Tiny, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""
[mllm.sft]
model = "{tiny("llama")}"
users = 4
cutoffs = 1
device = "cpu"
task = "choose"
choices = 3
lora = {{ r = 2 }}
trainer = {{ batch_size = 2, validations_per_epoch = 2, schedule = "constant" }}
"""
    )
    code, _, err = palate("mllm", "sft", data, "--config", recipe, "--out", tmp_path / "run", "--lora-r", 3)
    assert code == 0, err
    info = Run.open(tmp_path / "run").info
    assert info["options"]["lora"]["r"] == 3
    assert info["options"]["trainer"]["schedule"] == "constant"
    assert info["metric"] == "accuracy"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "all"], "images"),
        (["--negatives", "hard"], "negatives"),
        (["--summaries", "taste"], "--summary"),
        (["--set", "lora.rank=8"], "rank"),
        (["--device", "cuda:9"], "cuda:9"),
        (["--lora-dropout", 1], "dropout"),
        (["--item-summaries", "none-such"], "none-such"),
        (["--quantisation", "4bit", "--device", "cpu"], "GPU"),
        (["--prompts", "/no/such/folder"], "/no/such/folder"),
        (["--dtype", "float16"], "--dtype bfloat16"),
        (["--set", "prompt.item_summaries=true"], "Give --item-summaries NAME"),
        (["--set", "prompt.history_summaries=true"], "(`palate summarise items --name`) as well"),
        (["--item-text", "none"], "Give --images candidate or --item-summaries NAME"),
        (["--blind", "--summary", "direct", "--summaries", "taste"], "use --summary none"),
        (["--blind", "--summaries", "taste"], "With --blind, leave it out"),
        (["--blind", "--history-items", 3], "--history-items is given"),
        (["--blind", "--history-text", "full"], "--history-text title"),
        (["--blind", "--images", "history"], "use --images none"),
        (["--blind", "--item-summaries", "x", "--set", "prompt.history_summaries=true"], "leave it out"),
        (["--blind", "--images", "both"], "use --images candidate"),
    ],
)
def test_mistakes(palate: Palate, data: Path, tiny: Tiny, tmp_path: Path, words: list[object], message: str) -> None:
    code, _, err = palate("mllm", "sft", data, "--model", tiny("llama"), "--out", tmp_path / "run", *words)
    assert code == 2
    assert message in err
    assert err.startswith("Error: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", [".", "/"])
def test_a_warm_up_into_no_new_folder(palate: Palate, data: Path, out: str) -> None:
    code, _, err = palate("mllm", "warm-up", data, "--out", out)
    assert code == 2
    assert err.startswith(f"Error: '{out}' is no name of a new folder")
