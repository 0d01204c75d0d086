"""Time scoring of a user's 1 + 20 candidates with the embedded model: shared prefix read once or packed, or not.

    python benchmarks/mllm_scoring.py --threads 2

Histories of 10 titles and 3 pictures, candidates with a picture each, drawn by a seed from the embedded demo set. All
ways score the same chats and take turns, user by user. The largest difference of their log-odds is printed as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from palate.demo.shop import build_demo
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=21)
    parser.add_argument("--images", default="both", choices=["none", "candidate", "history", "both"])
    parser.add_argument("--item-text", default="title", choices=["title", "full"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        items = Items.of(build_demo(Path(folder) / "shop", seed=0, items=120, users=300).catalogue)
        options = PromptOptions(images=given.images, item_text=given.item_text)
        prompter = Prompter(items, options, Templates.load())
        rng = np.random.default_rng(0)
        rows = []
        for _ in range(given.users + 1):
            drawn = (rng.permutation(len(items)) + 1).tolist()
            history, candidates = drawn[:10], drawn[10 : 10 + given.candidates]
            rows.append([prompter.yes_no(history, candidate) for candidate in candidates])
        model = open_model(ModelOptions(name=given.model, dtype=given.dtype))
        ways = {
            "naive": Scorer(model, reuse=False),
            "shared": Scorer(model, pack=False),
            "shared, pictures remembered": Scorer(model, pack=False, remember=True),
            "packed, pictures remembered": Scorer(model, remember=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        scores: dict[str, list[torch.Tensor]] = {name: [] for name in ways}
        for number, chats in enumerate(rows):
            for name, scorer in ways.items():
                began = time.perf_counter()
                scores[name].append(scorer.log_odds(chats, YES, NO))
                if number:  # the first user warms up
                    seconds[name].append(time.perf_counter() - began)
        for name, scorer in ways.items():
            pairs = zip(scores[name], scores["naive"], strict=True)
            apart = max(float((one - other).abs().max()) for one, other in pairs)
            print(
                f"{name}: {statistics.median(seconds[name]):.2f} s a user (median of {given.users}), "
                f"{scorer.tokens / len(rows):,.0f} tokens per user, largest difference {apart:.1e}"
            )


if __name__ == "__main__":
    main()
