"""What pictures are worth to a language model beside words: one question in several forms, on the demo's shop.

    palate demo --no-mllm --out runs/demo
    python benchmarks/picture_prompts.py runs/demo/dataset --model embedded
    python benchmarks/picture_prompts.py runs/demo/dataset --observer

Test users, the target and 7 uniform items, the last six purchases with their pictures. Items are named by title and
brand, by the title without its colour, by their kind, or not at all. AUC with the candidates' own pictures, and with
those of other items. The observer knows every look: a conditional logit of what the last six purchases share with a
candidate, fitted on the validation cases; its AUC is over all test users.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.optimize import minimize

from palate.data.dataset import Dataset
from palate.demo.shop.truth import load_truth
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer

LISTED, NEGATIVES = 6, 7
WORDS = ("category", "brand", "material", "colour")
COLUMNS = {"words and look": slice(None), "words": slice(0, len(WORDS)), "look": slice(len(WORDS), None)}


@dataclass(frozen=True)
class Case:
    """A history, and the target before the other candidates."""

    history: np.ndarray
    candidates: np.ndarray


def cases(data: Dataset, split: Any, rng: np.random.Generator) -> list[Case]:
    """The cases of a split, with uniform candidates that are not in the history."""
    found = data.cases(split)
    made = []
    for history, target in zip(found.histories, found.targets, strict=True):
        own = {*history.tolist(), int(target[0])}
        others = [item for item in rng.permutation(data.num_items)[: NEGATIVES + len(own)] + 1 if item not in own]
        made.append(Case(np.asarray(history), np.array([int(target[0]), *others[:NEGATIVES]])))
    return made


def area(scores: np.ndarray) -> float:
    """AUC of the first score against the others; ties count half."""
    return float(((scores[0] > scores[1:]) + 0.5 * (scores[0] == scores[1:])).mean())


def in_words(values: Sequence[float]) -> str:
    """Mean and its standard error."""
    numbers = np.array(values)
    return f"{numbers.mean():.3f} ({numbers.std(ddof=1) / len(numbers) ** 0.5:.3f})"


def named(data: Dataset, names: list[str | None]) -> Items:
    """The items under other titles, with brand and picture."""
    frame = data.catalogue.frame.select(
        "item_id",
        pl.Series("title", names, pl.String),
        pl.Series("text", data.catalogue.texts(["brand"]), pl.String),
        pl.lit(None, pl.String).alias("summary"),
        "image",
    )
    return Items(frame, data.catalogue.root)


def ask(data: Dataset, model: str, users: int, seed: int) -> None:
    """Print a table of the forms."""
    rng = np.random.default_rng(seed)
    tests = cases(data, "test", rng)
    some = [tests[place] for place in rng.permutation(len(tests))[:users]]
    titles = data.catalogue.frame["title"].to_list()
    kinds = data.catalogue.frame["category"].to_list()
    without_colour = [None if title is None else title.rsplit(",", 1)[0] for title in titles]
    forms: dict[str, tuple[list[str | None], Any]] = {
        "title, brand and picture": (titles, "full"),
        "title without its colour, and picture": (without_colour, "title"),
        "kind and picture": (kinds, "title"),
        "picture alone": (titles, "none"),
    }
    scorer = Scorer(open_model(model), remember=True)
    print("| prompt | right pictures | other items' | difference |\n|---|---|---|---|")
    for label, (names, text) in forms.items():
        items = named(data, names)
        pictured = [item for item in range(1, data.num_items + 1) if items.picture(item)]
        options = PromptOptions(
            images="both", item_text=text, history_text=text, history_items=LISTED, history_images=LISTED
        )
        right: list[float] = []
        other: list[float] = []
        for case in some:
            instead = {int(item): int(rng.choice(pictured)) for item in case.candidates}
            for areas, candidates in ((right, items), (other, items.with_pictures(instead))):
                prompter = Prompter(items, options, Templates.load(), candidates)
                chats = [prompter.yes_no(case.history.tolist(), int(item)) for item in case.candidates]
                areas.append(area(scorer.log_odds(chats, YES, NO).numpy()))
        gain = in_words(np.subtract(right, other).tolist())
        print(f"| {label} | {in_words(right)} | {in_words(other)} | {gain} |", flush=True)


def observe(data: Dataset, dataset: Path, seed: int) -> None:
    """Print the AUC of an observer who knows every look, with the candidates' own looks and with others'."""
    rng, look = np.random.default_rng(seed), load_truth(dataset).look
    frame = data.catalogue.frame
    codes = [np.r_[0, frame[name].fill_null("").rank("dense").to_numpy()] for name in WORDS]

    def shared(case: Case, looks: np.ndarray) -> np.ndarray:
        """What each candidate shares with the last purchases: ``[candidates, values]``."""
        last = case.history[-LISTED:]
        words = [(code[last] == code[case.candidates][:, None]).mean(1) for code in codes]
        seen = looks[case.candidates]
        far = ((seen[:, None] - look[last]) ** 2).mean(-1)
        return np.stack([*words, seen @ look[last].mean(0) / look.shape[1], -far.mean(1), -far.min(1)], axis=1)

    fitted = np.stack([shared(case, look) for case in cases(data, "valid", rng)])
    tests = cases(data, "test", rng)
    own, others = [], []
    for case in tests:
        looks = look.copy()
        looks[case.candidates] = look[rng.integers(1, len(look), len(case.candidates))]
        own.append(shared(case, look))
        others.append(shared(case, looks))
    for label, columns in COLUMNS.items():
        values = fitted[:, :, columns]

        def loss(weights: np.ndarray, values: np.ndarray = values) -> float:
            scores = values @ weights
            return float((np.logaddexp.reduce(scores, axis=1) - scores[:, 0]).mean() + 1e-3 * weights @ weights)

        weights = minimize(loss, np.zeros(values.shape[2])).x
        found = [in_words([area(one[:, columns] @ weights) for one in rows]) for rows in (own, others)]
        print(f"observer, {label}: AUC {found[0]}, with others' looks {found[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--observer", action="store_true", help="the observer in place of a language model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Dataset.load(options.dataset)
    if options.observer:
        observe(data, options.dataset, options.seed)
    else:
        ask(data, options.model, options.users, options.seed)


if __name__ == "__main__":
    main()
