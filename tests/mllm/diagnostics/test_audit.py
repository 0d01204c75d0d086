"""The audit: reading answers, counting what cannot be used, and asking a real (tiny) model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from palate.cli.llm.audit import audit as audit_command
from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply
from palate.mllm.diagnostics.answers import Verdict, read_choice, read_yes_no
from palate.mllm.diagnostics.audit import AuditCase, audit, generate_answers
from palate.mllm.prompts.chat import Chat
from palate.runs.run import Run

TITLES = ["Heat", "Alien", "Aliens", "It", "Plan B", "Heat"]


@pytest.mark.parametrize(
    ("text", "choice"),
    [("Yes", 1), ("no.", 0), ("YES!", 1), ("'No', because of the colour", 0), ("Answer: yes", 1), ("yes, yes", 1)],
)
def test_yes_and_no(text: str, choice: int) -> None:
    assert read_yes_no(text).choice == choice


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", "unparsable"),
        ("The user likes red shoes", "unparsable"),
        ("nothing, not yesterday, none", "unparsable"),  # no whole word of it
        ("Yes or No", "ambiguous"),
        ("Yes, no doubt", "ambiguous"),
        (None, "failed"),
    ],
)
def test_neither_yes_nor_no(text: str | None, verdict: str) -> None:
    answer = read_yes_no(text)
    assert (str(answer.verdict), answer.choice) == (verdict, None)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", 1),
        ("c.", 2),
        ("(D)", 3),
        ("**E**", 4),
        ("Answer: B", 1),
        ("The user will like B best, I think", 1),
        ("A is the best", 0),
        ("B) Alien", 1),
        ("Alien", 1),
        ('"aliens"', 2),
        ("it", 3),
        ("I would say Aliens, a great film", 2),
        ("Plan B", 4),  # the title's own B is no letter of the list
        ("E. Plan B", 4),
        ("F. Heat", 5),  # the title occurs twice, the letter says which
        ("A", 0),
        ("B, B, B", 1),
    ],
)
def test_choices(text: str, choice: int) -> None:
    assert read_choice(text, TITLES).choice == choice


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", "unparsable"),
        ("...", "unparsable"),
        ("I do not know", "unparsable"),
        ("A great film", "unparsable"),
        ("it is a big hit", "unparsable"),  # "It" is a title, and a word
        ("G", "out-of-list"),
        ("Answer: Z", "out-of-list"),
        ("Casablanca", "out-of-list"),
        ("Some other film", "unparsable"),
        ("A or B", "ambiguous"),
        ("A, B, C, D", "ambiguous"),
        ("B. Aliens", "ambiguous"),  # the letter of one, the title of another
        ("Alien and Plan B", "ambiguous"),
        ("B or Z", "ambiguous"),
        ("Heat", "ambiguous"),  # two candidates are called so
        (None, "failed"),
    ],
)
def test_no_choice(text: str | None, verdict: str) -> None:
    answer = read_choice(text, TITLES, known={*TITLES, "Casablanca"})
    assert (str(answer.verdict), answer.choice) == (verdict, None)


def test_what_cannot_be_used_is_a_miss_of_choose() -> None:
    answers = ["B", "A", "A or B", "Q", "hm", None, "Alien"]
    counted = audit("choose", [AuditCase(["Heat", "Alien", "It"], {1}, [one]) for one in answers])
    assert counted.hits == (True, False, False, False, False, False, True)
    assert counted.hit1 == counted.accuracy == 2 / 7
    assert {str(verdict): count for verdict, count in counted.counts.items()} == {
        "valid": 3,
        "unparsable": 1,
        "out-of-list": 1,
        "ambiguous": 1,
        "failed": 1,
    }
    assert counted.examples[Verdict.AMBIGUOUS] == ["A or B"]
    assert Verdict.VALID not in counted.examples
    json.dumps(counted.facts())


@pytest.mark.parametrize(
    ("answers", "hit"),
    [
        (["No", "Yes", "No"], True),
        (["Yes", "Yes", "No"], False),  # a tie counts against the model
        (["No", "No", "No"], False),
        (["No", "maybe", "No"], False),  # the target's answer cannot be used
        (["No", "Yes", "yes and no"], False),  # nor another's: that is no rejection
        ([None, "Yes", "No"], False),
    ],
)
def test_hits_of_yes_no(answers: list[str | None], hit: bool) -> None:
    counted = audit("yes-no", [AuditCase(["a", "b", "c"], {1}, answers)])
    assert counted.hits == (hit,)
    assert counted.answers == 3


def test_accuracy_of_yes_no_counts_answers() -> None:
    counted = audit("yes-no", [AuditCase(["a", "b", "c"], {1}, ["No", "Yes", "hm"]), AuditCase(["a"], {0}, ["No"])])
    assert (counted.right, counted.answers) == (2, 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PalateError, match="no answers"):
        audit("choose", [])
    with pytest.raises(PalateError, match="2 answers of a user instead of 3"):
        audit("yes-no", [AuditCase(["a", "b", "c"], {1}, ["Yes", "No"])])


class Scripted(Backend):
    """Answers from a list, out of order, with the check that it was given."""

    def __init__(self, texts: list[str | None]) -> None:
        self.texts = texts

    @property
    def identity(self) -> dict[str, Any]:
        return {}

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        for number, request in reversed(list(enumerate(requests))):
            text = self.texts[number]
            assert check is not None
            assert text is None or check(text) is None, "a bad answer would be asked for again"
            if text != "lost":
                done(Reply(request.key, text, None if text is not None else "no luck", 10, 2))


def test_answers_come_in_the_order_of_the_questions() -> None:
    texts = ["Yes", "", None, "lost", "No"]
    replies = generate_answers(Scripted(texts), [Chat((f"question {number}",)) for number in range(5)])
    assert [reply.text for reply in replies] == ["Yes", "", None, None, "No"]
    assert replies[2].error == "no luck"
    assert "no reply" in str(replies[3].error)


def _run(tmp_path: Path, model_folder: Path, task: str) -> tuple[Path, Dataset]:
    """A shop of 40 users and 30 things, and a zero-shot run of a tiny model on it."""
    pytest.importorskip("transformers")
    from palate.mllm.lm.loading import open_model
    from palate.mllm.prompts.items import Items
    from palate.mllm.prompts.prompter import Prompter, PromptOptions
    from palate.mllm.prompts.templates import Templates
    from palate.mllm.recommender import BaseLM, MLLMConfig, MLLMRecommender

    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{item}", step) for u in range(40) for step, item in enumerate(rng.permutation(30)[:6])]
    log = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(30)], "title": [f"Thing {n}" for n in range(30)]})
    from_frames(log, items, name="things").save(tmp_path / "data")
    data = Dataset.load(tmp_path / "data")
    model = open_model(str(model_folder))
    options = PromptOptions.model_validate({"task": task})
    prompter = Prompter(Items.of(data.catalogue), options, Templates.load(None))
    config = MLLMConfig(base=BaseLM(name=model.name, fingerprint=model.fingerprint), prompt=options)
    run = Run.start(
        tmp_path / "run",
        model="mllm",
        options=config.model_dump(mode="json"),
        seed=0,
        dataset=data,
        dataset_path=tmp_path / "data",
    )
    run.model_folder.mkdir()
    MLLMRecommender(model, prompter, None, config).save(run.model_folder)
    run.add(finished=True)
    return run.folder, data


def _call(*words: object) -> Any:
    app = typer.Typer()
    app.command("audit")(audit_command)
    app.command("other")(lambda: None)
    result = CliRunner().invoke(app, ["audit", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.mark.parametrize("task", ["yes-no", "choose"])
def test_a_run_is_audited(tiny: Callable[[str], Path], tmp_path: Path, task: str) -> None:
    run, _ = _run(tmp_path, tiny("llama"), task)
    words = (run, "--users", 6, "--negatives", 4, "--max-new-tokens", 4)
    facts = json.loads(_call(*words, "--json"))
    assert facts["users"] == 6
    assert facts["answers"] == sum(facts["counts"].values()) == (30 if task == "yes-no" else 6)
    assert facts["cost"]["prompts"] == facts["answers"]
    assert facts["cost"]["tokens"] > facts["answers"] * 20
    assert set(facts["hit@1"]) == {"answers", "scores", "answers - scores"}
    text = _call(*words)
    assert "unparsable" in text
    assert "hit@1 over 6 users" in text
    # The figure beside it is that of `palate evaluate` on the same candidates.
    from palate.evaluation.evaluate import evaluate
    from palate.evaluation.users import UserSample
    from palate.rankers.registry import load_recommender

    opened = Run.open(run)
    result = evaluate(
        load_recommender(opened),
        Dataset.load(tmp_path / "data"),
        protocol="sampled",
        negatives=4,
        ks=[1],
        users=UserSample(6),
    )
    assert facts["hit@1"]["scores"]["mean"] == pytest.approx(result.summary()["hitrate@1"])
    assert result.facts["cost"]["prompts"] == (30 if task == "yes-no" else 6)


def test_runs_that_do_not_speak_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="not a run"):
        _call(tmp_path)
    with pytest.raises(PalateError, match="no split 'tset'"):
        _call(tmp_path, "--split", "tset")
