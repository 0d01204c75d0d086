"""What packing the questions of a position saves in fine-tuning: forward and backward, CPU seconds per question.

    python benchmarks/mllm_packing.py DATASET [--model embedded-small] [--negatives 7] [--dtype bfloat16] [--images]

The same questions as rows of their own with the loss of all tokens, as rows of their own with the loss among the
answers allowed, and packed. One thread; an adapter as `palate mllm sft` puts it on, without dropout.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from palate.data.dataset import Dataset
from palate.data.positions import training_positions
from palate.mllm.components import load_components
from palate.mllm.finetune.collate import Collator
from palate.mllm.finetune.config import LoraConfig
from palate.mllm.finetune.examples import Examples, PromptCases
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.option_loss import CaseCollator, arguments, logits_of
from palate.mllm.finetune.token_loss import answer_loss
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.prompter import PromptOptions


def main() -> None:
    from peft import get_peft_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="embedded-small")
    parser.add_argument("--negatives", type=int, default=7)
    parser.add_argument("--positions", type=int, default=6)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--images", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = Dataset.load(given.dataset)
    prompt = PromptOptions(
        item_text="full",
        history_text="full",
        history_items=9,
        fields=("year", "genres"),
        images="candidate" if given.images else "none",
    )
    parts = load_components(dataset, ModelOptions(name=given.model, dtype=given.dtype), prompt)
    cases = training_positions(dataset, np.arange(given.positions), 1)
    questions = PromptCases.draw(dataset, cases, source="uniform", negatives=given.negatives, seed=0)
    examples = Examples(questions, parts.prompter, [None] * len(cases))
    model = parts.model
    tokens = model.first_tokens(examples[0][0], examples.answers)
    model.model = get_peft_model(model.model, peft_config(model, LoraConfig(dropout=0)))
    model.model.train()
    each = examples.each

    def rows(case: int) -> Any:
        batch = Collator(model, examples)([{"row": case * each + number} for number in range(each)])
        total, _ = answer_loss(model.model, batch)
        return total, batch["attention_mask"].sum()

    def options(packed: bool) -> Any:
        collate = CaseCollator(model, examples, packed)

        def loss(case: int) -> Any:
            batch = collate([{"row": case}])
            found = logits_of(model.model, model, arguments(batch, model.device), batch["ends"], tokens)
            return cross_entropy(found.flatten(0, 1), batch["labels"].flatten(), reduction="sum"), batch["read"]

        return loss

    ways = {"rows, all tokens": rows, "rows, options": options(False), "packed, options": options(True)}
    first = None
    for name, way in ways.items():
        way(0)[0].backward()  # warm
        began, read = time.process_time(), 0
        for case in range(1, len(cases)):
            loss, tokens_read = way(case)
            loss.backward()
            read += int(tokens_read)
        seconds = (time.process_time() - began) / ((len(cases) - 1) * each)
        first = first or seconds
        tokens_each = read / (len(cases) - 1)
        faster = first / seconds
        print(f"{name:18} {1000 * seconds:7.0f} ms a question {tokens_each:7.0f} tokens a position {faster:5.1f}x")


if __name__ == "__main__":
    main()
