"""Does a language model believe titles more than pictures, and does noise in the alignment change that?

    palate demo --no-mllm --out runs/demo
    python benchmarks/modality_bias.py runs/demo/dataset --out runs/bias --seeds 3

On the demo's shop, where titles and pictures are right. A model is fine-tuned on prompts with both (the start) and
aligned, from the same start, by DPO, by HaNoRec with noise on logits, and with noise on the adapter. Then titles and
pictures of the candidates contradict each other on purpose: test cases are asked with everything right, with the
pictures of other items under the right titles, and with the titles of other items over the right pictures. What AUC
loses is what the model takes from the pictures, and from the titles. HaNoRec (arXiv 2511.18740) expects noise to make
a model lean less on one modality. Runs in ``--out`` are kept, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aligned_arms import add_options, make_arm, make_start
from picture_prompts import Case, area, cases, in_words

from palate.data.dataset import Dataset
from palate.mllm.prompts.prompter import NO, YES, Prompter
from palate.mllm.recommender import MLLMRecommender
from palate.mllm.scoring.scorer import Scorer

LISTED = 6
PROMPT = {
    "images": "both",
    "item_text": "full",
    "history_text": "full",
    "history_items": LISTED,
    "history_images": LISTED,
    "fields": ["brand"],
}
PLAIN = {"hardness": "one", "responsiveness": "one"}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "DPO": ("dpo", {}),
    "HaNoRec, noise on logits": ("hanorec", {**PLAIN, "noise": "logits", "sigma": 0.05}),
    "HaNoRec, noise on the adapter": ("hanorec", {**PLAIN, "noise": "lora", "sigma": 0.02}),
}


def areas_of(run: Path, tests: Sequence[Case], others: Sequence[list[int]]) -> np.ndarray:
    """AUC of every case: ``[3, cases]``, with everything right, with other pictures, with other titles.

    Args:
        others: for each candidate of each case, the item whose picture or title it gets.
    """
    model = MLLMRecommender.load(run / "model")
    scorer = Scorer(model.model, remember=True)
    items, templates = model.prompter.items, model.prompter.templates
    found = np.empty((3, len(tests)))
    for place, (case, instead) in enumerate(zip(tests, others, strict=True)):
        own, history = case.candidates.tolist(), case.history.tolist()
        asked: tuple[tuple[list[int], dict[int, int]], ...] = (
            (own, {}),
            (own, dict(zip(own, instead, strict=True))),
            (instead, dict(zip(instead, own, strict=True))),
        )
        for row, (titles, pictures) in enumerate(asked):
            shown = items.with_pictures(pictures) if pictures else items
            prompter = Prompter(items, model.prompter.options, templates, shown)
            chats = [prompter.yes_no(history, item) for item in titles]
            found[row, place] = area(scorer.log_odds(chats, YES, NO).numpy())
    return found


def train(options: argparse.Namespace, data: Dataset) -> dict[str, list[Path]]:
    """The runs of each row of the table."""
    rows = {"start": [make_start(options, data, PROMPT)]}
    for label, (objective, preference) in ARMS.items():
        name = label.replace(", ", "-").replace(" ", "-")
        rows[label] = [make_arm(options, name, seed, objective, preference) for seed in range(options.seeds)]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, positions=100)
    parser.add_argument("--users", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, rng = Dataset.load(options.dataset), np.random.default_rng(0)
    tests = cases(data, "test", rng)
    some = [tests[place] for place in rng.permutation(len(tests))[: options.users]]
    pictured = np.flatnonzero(data.catalogue.frame["image"].is_not_null()) + 1
    others = []
    for case in some:
        free = np.setdiff1d(pictured, [*case.candidates, *case.history])
        others.append(rng.choice(free, len(case.candidates), replace=False).tolist())
    rows = train(options, data)
    print("| model | all right | other pictures | other titles | taken from pictures | from titles |")
    print("|---|---|---|---|---|---|")
    for label, runs in rows.items():
        right, pictures, titles = np.mean([areas_of(run, some, others) for run in runs], axis=0)
        cells = (right, pictures, titles, right - pictures, right - titles)
        print(f"| {label} | {' | '.join(in_words(cell) for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
