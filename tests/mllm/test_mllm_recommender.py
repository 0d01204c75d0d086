"""The MLLM as a recommender: what every recommender promises, for the candidates that it can afford."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from summary_helpers import Echo
from worlds import TASTE_ITEMS, two_tastes, walking_shop

import palate.mllm.recommender as recommender_module
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.evaluate import evaluate
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.recommender import BaseLM, MLLMConfig, MLLMRecommender
from palate.mllm.summaries.preferences import Preferences
from palate.mllm.summaries.steps import SummarySteps, UserOptions
from palate.mllm.summaries.users import UserWork, cut_offs

Tiny = Callable[[str], Path]
HISTORIES = [[1, 3, 5, 7], [2], []]
CANDIDATES = torch.tensor([[9, 2, 4, 11], [6, 8, 0, 0], [5, 3, 1, 0]])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tastes(tmp_path_factory.mktemp("tastes"))


def _make(folder: Path, dataset: Dataset, **prompt: object) -> MLLMRecommender:
    model = open_model(str(folder))
    options = PromptOptions.parse(prompt, where="test")
    base = BaseLM(name=str(folder), fingerprint=model.fingerprint)
    prompter = Prompter(Items.of(dataset.catalogue), options, Templates.load())
    return MLLMRecommender(model, prompter, None, MLLMConfig(base=base, prompt=options))


@pytest.mark.parametrize("task", ["yes-no", "choose"])
@pytest.mark.parametrize(("family", "images"), [("llama", "none"), ("llava", "both"), ("smolvlm", "candidate")])
def test_scores_keep_the_contract(tiny: Tiny, dataset: Dataset, family: str, images: str, task: str) -> None:
    made = _make(tiny(family), dataset, images=images, task=task)
    scores = made.score(HISTORIES, CANDIDATES)
    assert scores.dtype == torch.float32
    assert scores.shape == CANDIDATES.shape
    assert torch.equal(scores == -torch.inf, CANDIDATES == 0)
    assert torch.equal(made.score(HISTORIES, CANDIDATES), scores)
    # A row alone, and candidates in another order, score the same.
    torch.testing.assert_close(made.score(HISTORIES[:1], CANDIDATES[:1])[0], scores[0], atol=1e-4, rtol=0)
    if task == "yes-no":
        swapped = made.score(HISTORIES[:1], CANDIDATES[:1].flip(1))
        torch.testing.assert_close(swapped.flip(1), scores[:1], atol=1e-4, rtol=0)


def test_the_score_is_the_log_odds_of_the_prompt(tiny: Tiny, dataset: Dataset) -> None:
    made = _make(tiny("llama"), dataset)
    chat = made.prompter.yes_no([1, 3, 5, 7], 9)
    expected = made.scorer.log_odds([chat], YES, NO)[0]
    torch.testing.assert_close(made.score([[1, 3, 5, 7]], torch.tensor([[9, 2]]))[0, 0], expected, atol=1e-4, rtol=0)


def test_choose_with_all_rotations_has_no_place_to_like(tiny: Tiny, dataset: Dataset) -> None:
    """With as many rotations as candidates every one of them stands once in every place."""
    made = _make(tiny("llama"), dataset, task="choose")
    items = torch.tensor([[9, 2, 4, 11]])
    rotated = items.roll(1, dims=1)
    plain = made.score(HISTORIES[:1], items)[0]
    made.config = made.config.model_copy(update={"rotations": 4})
    fair = made.score(HISTORIES[:1], items)[0]
    again = made.score(HISTORIES[:1], rotated)[0].roll(-1)
    torch.testing.assert_close(fair, again, atol=1e-4, rtol=0)
    assert not torch.allclose(fair, plain, atol=1e-3)


def test_no_rotation_counts_twice(tiny: Tiny, dataset: Dataset) -> None:
    made = _make(tiny("llama"), dataset, task="choose")
    items, found = torch.tensor([[9, 2, 4]]), []
    for rotations in (3, 10):
        made.config = made.config.model_copy(update={"rotations": rotations})
        before = made.scorer.prompts
        found.append(made.score(HISTORIES[:1], items))
        assert made.scorer.prompts - before == 3
    torch.testing.assert_close(found[0], found[1])


def test_more_candidates_than_letters_are_refused(tiny: Tiny, dataset: Dataset) -> None:
    made = _make(tiny("llama"), dataset, task="choose")
    with pytest.raises(PalateError, match="letters for 26 candidates, not for 27"):
        made.score([[1]], torch.arange(2, 29)[None])


@pytest.mark.parametrize("task", ["yes-no", "choose"])
def test_the_whole_catalogue_is_refused_with_an_estimate(tiny: Tiny, dataset: Dataset, task: str) -> None:
    made = _make(tiny("llama"), dataset, task=task)
    with pytest.raises(PalateError, match=r"cannot afford all 30 items .* (hours|minutes|seconds)") as refused:
        made.score(HISTORIES)
    estimate = re.search(r"about ([0-9.e,-]+) ", str(refused.value))
    assert estimate is not None
    assert float(estimate[1].replace(",", "")) > 0
    assert "--retriever" in str(refused.value)
    made.score(HISTORIES[:1], CANDIDATES[:1])
    with pytest.raises(PalateError, match="cannot afford"):
        made.score(HISTORIES)


def test_a_blind_prompt_scores_all_users_alike(tiny: Tiny, dataset: Dataset) -> None:
    made = _make(tiny("llama"), dataset, blind=True)
    scores = made.score([[1, 3], [2, 4, 6]], torch.tensor([[9, 10], [9, 10]]))
    torch.testing.assert_close(scores[0], scores[1])


def test_saved_and_loaded_it_scores_the_same(tiny: Tiny, dataset: Dataset, tmp_path: Path) -> None:
    made = _make(tiny("llava"), dataset, images="candidate")
    made.save(tmp_path)
    again = MLLMRecommender.load(tmp_path)
    torch.testing.assert_close(again.score(HISTORIES, CANDIDATES), made.score(HISTORIES, CANDIDATES))
    assert again.describe() == made.describe()
    assert again.config == made.config


def test_an_adapter_is_saved_and_loaded(tiny: Tiny, dataset: Dataset, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    made = _make(tiny("llama"), dataset)
    plain = made.score(HISTORIES, CANDIDATES)
    made.model.model = get_peft_model(made.model.model, LoraConfig(r=2, target_modules="all-linear")).eval()
    with torch.no_grad():
        for name, weights in made.model.model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    changed = made.score(HISTORIES, CANDIDATES)
    assert not torch.allclose(changed, plain, atol=1e-2)
    made.save(tmp_path)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    torch.testing.assert_close(MLLMRecommender.load(tmp_path).score(HISTORIES, CANDIDATES), changed)


def test_another_base_model_of_the_same_name_is_refused(tiny: Tiny, dataset: Dataset, tmp_path: Path) -> None:
    made = _make(tiny("llama"), dataset)
    base = made.config.base.model_copy(update={"fingerprint": "another"})
    made.config = made.config.model_copy(update={"base": base})
    made.save(tmp_path)
    with pytest.raises(PalateError, match="is another model than the one"):
        MLLMRecommender.load(tmp_path)


class Spy:
    """Stands for something that opens, and notes that it was used."""

    def __init__(self, real: Any, name: str, used: list[str]) -> None:
        self._real, self._name, self._used = real, name, used

    def __getattr__(self, name: str) -> Any:
        self._used.append(self._name)
        return getattr(self._real, name)

    def __call__(self, *words: Any, **more: Any) -> Any:
        self._used.append(self._name)
        return self._real(*words, **more)


@pytest.mark.parametrize("consent", [None, "0", "true", "1"])
def test_a_run_cannot_agree_to_foreign_code(
    tiny: Tiny, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, consent: str | None
) -> None:
    made = _make(tiny("llama"), dataset)
    base = made.config.base.model_copy(update={"trust_remote_code": True})
    made.config = made.config.model_copy(update={"base": base})
    made.save(tmp_path)
    monkeypatch.delenv("PALATE_TRUST_REMOTE_CODE", raising=False)
    if consent is not None:
        monkeypatch.setenv("PALATE_TRUST_REMOTE_CODE", consent)
    opened: list[str] = []
    for name in ("open_model", "Items", "Templates", "Preferences"):
        real = getattr(recommender_module, name)
        monkeypatch.setattr(recommender_module, name, Spy(real, name, opened))
    if consent == "1":
        MLLMRecommender.load(tmp_path)
        assert set(opened) == {"open_model", "Items", "Templates"}
        return
    with pytest.raises(PalateError, match=r"wants to run code .* PALATE_TRUST_REMOTE_CODE=1"):
        MLLMRecommender.load(tmp_path)
    assert not opened, "it is refused before anything is loaded"


def test_runs_keep_these_facts_of_the_language_model() -> None:
    base = MLLMConfig.parse({"base": {"name": "m", "fingerprint": "f"}}, where="config.json").base
    facts = {"name": "m", "fingerprint": "f", "dtype": "float32", "quantisation": None, "revision": None}
    assert base.model_dump(mode="json") == {**facts, "trust_remote_code": False, "chat_template_kwargs": {}}


def test_it_is_evaluated_like_any_other(tiny: Tiny, dataset: Dataset) -> None:
    made = _make(tiny("llama"), dataset)
    result = evaluate(made, dataset, protocol="sampled", negatives=5, ks=(1, 3))
    assert set(result.metrics) >= {"auc", "ndcg@3", "hitrate@1", "mrr@3"}
    assert len(result.users()) == dataset.num_users
    cost = made.cost()
    # A prompt for each distinct candidate: the target and five negatives of each user.
    assert cost["prompts"] == dataset.num_users * 6
    assert cost["tokens"] > 0


def test_prompts_hold_no_more_than_the_history_given(tiny: Tiny, dataset: Dataset) -> None:
    """The score of a candidate does not change with what the dataset knows of the user's future."""
    made = _make(tiny("llama"), dataset)
    chat = made.prompter.yes_no([1, 3], 9)
    named = {
        item for item in range(1, TASTE_ITEMS + 1) if f'thing {item}"' in chat.text or f"thing {item}”" in chat.text
    }
    assert named <= {1, 3, 9}


@pytest.fixture
def written(tmp_path: Path, tiny: Tiny) -> tuple[Dataset, MLLMRecommender, Echo]:
    """A recommender whose prompts show preferences, written for the test cases of a shop."""
    data = walking_shop()
    data.save(tmp_path / "data")
    echo, templates = Echo(), Templates.load()
    summary_steps = SummarySteps(SummaryPrompts(Items.of(data.catalogue), templates), UserOptions(), echo.identity)
    cases = cut_offs(data, ["test"], None, 1)
    work = UserWork(summary_steps, cases, data.user_ids.to_list(), None)
    work.write(tmp_path / "data" / "summaries" / "users" / "echo", echo)
    preferences = Preferences.open(tmp_path / "data", "echo", data.catalogue, templates)
    model = open_model(str(tiny("llama")))
    options = PromptOptions(summary="recurrent")
    config = MLLMConfig(base=BaseLM(name=str(tiny("llama")), fingerprint=model.fingerprint), prompt=options)
    prompter = Prompter(preferences.items, options, templates)
    return data, MLLMRecommender(model, prompter, preferences, config), echo


def test_preferences_are_found_by_history(written: tuple[Dataset, MLLMRecommender, Echo], tmp_path: Path) -> None:
    data, made, _ = written
    histories = data.cases("test").histories
    candidates = torch.tensor([[1, 2, 3]]).expand(len(histories), -1)
    scores = made.score(histories, candidates)
    with pytest.raises(PalateError, match="1 of 1 histories have no written preference"):
        made.score([[7, 1, 9, 4]], candidates[:1])
    (tmp_path / "model").mkdir()
    made.save(tmp_path / "model")
    # The run answers for the same histories where the dataset is gone.
    (tmp_path / "data").rename(tmp_path / "gone")
    torch.testing.assert_close(MLLMRecommender.load(tmp_path / "model").score(histories, candidates), scores)


def test_a_new_history_gets_its_preference_written(written: tuple[Dataset, MLLMRecommender, Echo]) -> None:
    _, made, echo = written
    before = len(echo.requested)
    assert made.preferences is not None
    made.preferences.allow(lambda: echo)
    scores = made.score([[7, 1, 9, 4]], torch.tensor([[1, 2]]))
    assert torch.isfinite(scores).all()
    assert len(echo.requested) == before + 2  # four items are two blocks
    made.score([[7, 1, 9, 4]], torch.tensor([[1, 2]]))
    assert len(echo.requested) == before + 2


def test_preferences_that_are_wanted_must_be_there(tiny: Tiny, dataset: Dataset) -> None:
    with pytest.raises(PalateError, match="shows a direct summary of the user, and there are none"):
        _make(tiny("llama"), dataset, summary="direct")


def test_equal_histories_of_numpy_and_lists(tiny: Tiny, dataset: Dataset) -> None:
    made = _make(tiny("llama"), dataset)
    as_arrays = [np.array(row, np.int32) for row in HISTORIES]
    torch.testing.assert_close(made.score(as_arrays, CANDIDATES), made.score(HISTORIES, CANDIDATES))
