"""The part of ``benchmarks/gpu.py`` with a language model: a LLaVA of random weights, made in place.

Its sizes are those of LLaVA-1.5 with Mistral's 7 billion parameters as the language model: 576 tokens per picture. The
tokenizer is trained on the generated shop. Nothing is downloaded, and random weights cost what trained ones do.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_parts import Facts, timed, wait_for

from palate.data.dataset import Dataset
from palate.data.positions import training_positions
from palate.demo.shop import build_demo
from palate.mllm.finetune.config import LoraConfig
from palate.mllm.finetune.examples import Examples, PromptCases
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.option_loss import AnswerLogits, CaseCollator
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.embedded import TEMPLATE
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
# Layers, width, inner width, heads, heads of keys, vocabulary; side of a picture and the tower's layers and width.
_FULL = (32, 4096, 14336, 32, 8, 32_000, 336, 24, 1024)
_SMALL = (2, 32, 64, 4, 2, 1_000, 56, 2, 32)


def language_model(device: str, small: bool) -> Iterator[Facts]:
    with tempfile.TemporaryDirectory() as folder:
        shop = build_demo(Path(folder) / "shop", seed=0, items=40 if small else 120, users=30 if small else 300)
        model = random_llava(shop, device, small)
        yield {"language_model": "made", "parameters": sum(one.numel() for one in model.model.parameters())}
        prompter = Prompter(Items.of(shop.catalogue), PromptOptions(images="both"), Templates.load())
        yield from scoring(model, prompter, device, small)
        yield from fine_tuning(model, shop, prompter, device, small)


def random_llava(shop: Dataset, device: str, small: bool) -> ChatModel:
    import transformers

    layers, width, inner, heads, keys, vocabulary, side, tower_layers, tower_width = _SMALL if small else _FULL
    tokenizer = trained_tokenizer(shop, vocabulary)
    config = transformers.LlavaConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=tower_width,
            intermediate_size=4 * tower_width,
            num_hidden_layers=tower_layers,
            num_attention_heads=max(4, tower_width // 64),
            image_size=side,
            patch_size=14,
            vision_use_head=False,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=keys,
            max_position_embeddings=32_768,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // 14) ** 2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.LlavaForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )
    return ChatModel("random", model.eval(), processor, fingerprint="random")


def trained_tokenizer(shop: Dataset, vocabulary: int) -> Any:
    """Byte pairs of the shop's own texts, so that prompts have about as many tokens as with a real one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, 8_000),
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    frame = shop.catalogue.frame
    texts = [str(text) for name in ("title", "description") if name in frame.columns for text in frame[name]]
    backend.train_from_iterator([*texts, *["Yes No user assistant history candidate picture title"] * 20], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<image>"],
    )
    made.chat_template = TEMPLATE
    return made


def scoring(model: ChatModel, prompter: Prompter, device: str, small: bool) -> Iterator[Facts]:
    """A user's 21 candidates with the shared beginning read once or packed, and without; and the same in float32."""
    rng = np.random.default_rng(0)
    users, candidates = (1, 3) if small else (3, 21)
    count = len(prompter.items)
    drawn = [(rng.permutation(count) + 1).tolist() for _ in range(users + 1)]
    rows = [[prompter.yes_no(one[:10], item) for item in one[10 : 10 + candidates]] for one in drawn]
    ways = {
        "every prompt as a whole": Scorer(model, reuse=False),
        "shared beginning read once": Scorer(model, pack=False),
        "and pictures encoded once": Scorer(model, pack=False, remember=True),
        "short prompts packed as well": Scorer(model, remember=True),
    }
    first: list[torch.Tensor] = []
    for name, scorer in ways.items():
        scorer.log_odds(rows[-1], YES, NO)  # warms up, and compares the ways in float32
        tokens = scorer.tokens
        began = time.perf_counter()
        scores = [scorer.log_odds(chats, YES, NO) for chats in rows[:users]]
        seconds = (time.perf_counter() - began) / users
        first = first or scores
        apart = max(float((one - other).abs().max()) for one, other in zip(scores, first, strict=True))
        tokens = round((scorer.tokens - tokens) / users)
        yield {"scoring": name, "seconds": round(seconds, 3), "tokens": tokens, "largest_difference": apart}
    if not small and device == "cpu":
        return
    model.model.float()
    exact = [Scorer(model, reuse=False).log_odds(chats, YES, NO) for chats in rows[:users]]
    model.model.bfloat16()
    apart = max(float((one - other).abs().max()) for one, other in zip(exact, first, strict=True))
    spread = float(torch.cat(exact).std())
    yield {"scoring": "bfloat16 against float32", "largest_difference": apart, "spread_of_scores": spread}


def fine_tuning(model: ChatModel, shop: Dataset, prompter: Prompter, device: str, small: bool) -> Iterator[Facts]:
    """Steps of AdamW on an adapter: cases of one target and one other item, packed, and each prompt for itself."""
    from peft import get_peft_model

    batch_size = 2 if small else 4
    cases = training_positions(shop, np.arange(batch_size), 1)
    questions = PromptCases.draw(shop, cases, source="uniform", negatives=1, seed=0)
    examples = Examples(questions, prompter, [None] * len(cases))
    model.model = get_peft_model(model.model, peft_config(model, LoraConfig(dropout=0)))
    model.model.train()
    model.model.gradient_checkpointing_enable({"use_reentrant": False})
    optimiser = torch.optim.AdamW([one for one in model.model.parameters() if one.requires_grad], lr=1e-4)
    for packed in (True, False):
        collate, logits_of = CaseCollator(model, examples, packed), AnswerLogits(model, examples)
        batch = collate([{"row": row} for row in range(len(cases))])
        losses: list[float] = []

        def step(
            batch: dict[str, Any] = batch, logits_of: AnswerLogits = logits_of, losses: list[float] = losses
        ) -> None:
            logits = logits_of(model.model, batch)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].to(device).flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))

        seconds = timed(step, device, repeats=1 if small else 3)
        wait_for(device)
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else None
        yield {
            "fine_tuning": "packed" if packed else "each prompt for itself",
            "seconds": round(seconds, 3),
            "prompts": batch["labels"].numel(),
            "tokens": int(batch["read"]),
            "losses": losses,
            "gpu_peak_gb": peak and round(peak, 1),
        }


def _step(
    model: ChatModel,
    logits_of: AnswerLogits,
    batch: dict[str, Any],
    right: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    losses: list[float],
) -> None:
    loss = torch.nn.functional.cross_entropy(logits_of(model.model, batch).flatten(0, 1), right)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(float(loss.detach()))
