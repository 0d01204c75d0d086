"""A run and the preferences it lacks: when it may write them, with which model, and where it looks for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from summary_helpers import Echo, lines, steps_for
from worlds import walking_shop

from palate.cascade.cascade import Cascade
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.evaluate import Protocol, evaluate
from palate.mllm.backends import open_backend
from palate.mllm.backends.base import Backend
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.prompter import Prompter, PromptOptions
from palate.mllm.recommender import BaseLM, MLLMConfig, MLLMRecommender
from palate.mllm.summaries.preferences import Preferences
from palate.mllm.summaries.users import UserWork, cut_offs
from palate.rankers.popularity import Popularity
from palate.rankers.recommend import Recommendations
from palate.recommender import Recommender
from palate.runs.run import Run

Tiny = Callable[[str], Path]
NEW = [[7, 1, 9, 4]]
PAIR = torch.tensor([[1, 2]])


@pytest.fixture(autouse=True)
def _any_words_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights write no sentences."""
    monkeypatch.setattr("palate.mllm.summaries.work.check_summary", lambda text: None)


@pytest.fixture
def writer(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A folder's model, named as from the folder it lies in."""
    shutil.copytree(tiny("llama"), tmp_path / "models/writer")
    monkeypatch.chdir(tmp_path / "models")
    backend = open_backend("local", "writer", dtype="bfloat16", temperature=0.7, seed=3, device="cpu")
    monkeypatch.chdir(tmp_path)
    return backend


def saved(backend: Backend, tiny: Tiny, folder: Path, as_of: str = "test") -> Dataset:
    """``folder/data`` with preferences of a shop, and ``folder/run``, made of them."""
    walking_shop(users=3).save(folder / "data")
    data = Dataset.load(folder / "data")
    summary_steps = steps_for(data, backend, max_new_tokens=6)
    work = UserWork(summary_steps, cut_offs(data, [as_of]), data.user_ids.to_list())
    assert not work.write(folder / "data/summaries/users/mine", backend, progress=False).missing
    preferences = Preferences.open(folder / "data", "mine", data.catalogue)
    model = open_model(str(tiny("llama")))
    options = PromptOptions(summary="recurrent")
    config = MLLMConfig(base=BaseLM(name=str(tiny("llama")), fingerprint=model.fingerprint), prompt=options)
    prompter = Prompter(preferences.items, options, preferences.templates)
    made = MLLMRecommender(model, prompter, preferences, config)
    preferences.of([cut_offs(data, [as_of])[0].history.tolist()])  # what the run keeps
    run = Run.start(folder / "run", model="mllm", options={}, seed=0, dataset=data, dataset_path=folder / "data")
    run.model_folder.mkdir()
    made.save(run.model_folder)
    run.add(finished=True)
    return data


def test_a_new_history_is_written_by_the_very_model_that_wrote_the_others(
    writer: Backend, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(writer, tiny, tmp_path)
    facts = json.loads((tmp_path / "run/model/summaries.json").read_text())
    assert facts["made"]["backend"]["model"] == "writer"
    assert facts["origin"]["model"] == str(tmp_path / "models/writer")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # "writer" means nothing here
    made = MLLMRecommender.load(tmp_path / "run/model")
    with pytest.raises(PalateError, match=r"1 of 1 histories .* --as-of now") as refused:
        made.score(NEW, PAIR)
    command = f"--backend local --model {tmp_path}/models/writer --dtype bfloat16 --temperature 0.7 --seed 3"
    assert command in str(refused.value)
    before = len(lines(tmp_path / "data/summaries/users/mine"))
    made.allow_generation()
    assert torch.isfinite(made.score(NEW, PAIR)).all()
    assert len(lines(tmp_path / "data/summaries/users/mine")) == before + 2


@pytest.mark.parametrize("hub", ["writer", "org/writer"])
def test_a_folder_that_is_gone_is_refused_and_never_looked_for_on_the_hub(
    writer: Backend, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: str
) -> None:
    saved(writer, tiny, tmp_path)
    asked: list[str] = []
    monkeypatch.setattr("palate.mllm.backends.local_spec.open_model", lambda name, **_: asked.append(name))
    made = MLLMRecommender.load(tmp_path / "run/model")
    made.allow_generation()
    (tmp_path / "models/writer").rename(tmp_path / "elsewhere")
    with pytest.raises(PalateError, match=r"is not at .*/models/writer any more"):
        made.score(NEW, PAIR)
    # The other way round: what came from the hub is not taken from a folder that has its name.
    path = tmp_path / "run/model/summaries.json"
    facts = json.loads(path.read_text())
    (tmp_path / hub).mkdir(parents=True)
    for origin in ({"kind": "hub", "model": hub}, {"kind": "folder", "model": hub}):
        path.write_text(json.dumps({**facts, "origin": facts["origin"] | origin}))
        made = MLLMRecommender.load(tmp_path / "run/model")
        made.allow_generation()
        with pytest.raises(PalateError, match=hub):
            made.score(NEW, PAIR)
    assert not asked


@pytest.mark.parametrize("origin", [3, [], {"kind": "hub"}, {"trust_remote_code": True}])
def test_a_damaged_or_demanding_origin_is_one_clear_error(
    writer: Backend, tiny: Tiny, tmp_path: Path, origin: object
) -> None:
    saved(writer, tiny, tmp_path)
    path = tmp_path / "run/model/summaries.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "origin": facts["origin"] | origin if "trust" in str(origin) else origin}))
    with pytest.raises(PalateError, match=r"summaries.json \[origin\]"):
        MLLMRecommender.load(tmp_path / "run/model")


def test_evaluation_writes_nothing_and_recommending_does(writer: Backend, tiny: Tiny, tmp_path: Path) -> None:
    data = saved(writer, tiny, tmp_path, as_of="valid")
    store = tmp_path / "data/summaries/users/mine"
    before = lines(store)
    made = MLLMRecommender.load(tmp_path / "run/model")
    retriever = Popularity.fit(data)
    asked: list[tuple[Recommender, Protocol]] = [(made, "sampled"), (Cascade(retriever, made, depth=2), "full")]
    for model, protocol in asked:
        with pytest.raises(PalateError, match=r"3 of 3 histories have no written preference.*palate summarise users"):
            evaluate(model, data, protocol=protocol, negatives=3)
    assert lines(store) == before
    assert not made.cost()["prompts"], "it is told before anything is asked"
    ready = Recommendations(tmp_path / "run", recommender=Cascade(retriever, made, depth=2))
    assert len(ready.of_indices(data.cases("test").histories, 2)) == 6
    assert len(lines(store)) > len(before)


def test_a_server_is_never_asked_by_a_run(tiny: Tiny, tmp_path: Path) -> None:
    saved(Echo(), tiny, tmp_path)
    made = MLLMRecommender.load(tmp_path / "run/model")
    made.allow_generation()
    with pytest.raises(PalateError, match=r"1 of 1 histories .* --backend echo --model echo .* --as-of now"):
        made.score(NEW, PAIR)


def test_a_dataset_that_was_moved_takes_its_preferences_along(tiny: Tiny, tmp_path: Path) -> None:
    saved(Echo(), tiny, tmp_path)
    (tmp_path / "data").rename(tmp_path / "moved")
    made = MLLMRecommender.load(tmp_path / "run/model")
    with pytest.raises(PalateError, match="2 of 3 histories"):
        made.check_ready(Dataset.load(tmp_path / "moved").cases("test").histories)
    result = evaluate(made, Dataset.load(tmp_path / "moved"), protocol="sampled", negatives=3)
    assert len(result.users()) == 3


def test_a_store_of_that_name_made_otherwise_is_not_taken(tiny: Tiny, tmp_path: Path) -> None:
    saved(Echo(), tiny, tmp_path)
    (tmp_path / "data").rename(tmp_path / "moved")
    path = tmp_path / "moved/summaries/users/mine/summaries.json"
    facts = json.loads(path.read_text())
    facts["made"]["backend"]["model"] = "another"
    path.write_text(json.dumps(facts))
    with pytest.raises(PalateError, match="2 of 3 histories"):
        evaluate(MLLMRecommender.load(tmp_path / "run/model"), Dataset.load(tmp_path / "moved"), protocol="sampled")


def test_preferences_as_of_now_are_what_recommending_reads(tiny: Tiny, tmp_path: Path) -> None:
    data = saved(Echo(), tiny, tmp_path, as_of="now")
    cuts = cut_offs(data, ["now"])
    assert [one.history.tolist() for one in cuts] == [data.history_of(user).tolist() for user in data.user_ids]
    assert [one.as_of for one in cut_offs(data, ["now", "test"])] == ["test", "now"] * 3
    made = MLLMRecommender.load(tmp_path / "run/model")
    ready = Recommendations(tmp_path / "run", recommender=Cascade(Popularity.fit(data), made, depth=2))
    histories, _ = ready.histories_of(data)
    assert len(ready.of_indices(histories, 2)) == 6
