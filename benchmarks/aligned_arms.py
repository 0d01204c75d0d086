"""The part that known_hardness.py and modality_bias.py share: a small fine-tuned start, and alignments from it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.features.store import FeatureStore
from palate.mllm.alignment.align import align_mllm
from palate.mllm.finetune.sft import fine_tune

TRAINER: dict[str, Any] = {"accumulation": 2, "keep": "last", "validations_per_epoch": 1}
LORA: dict[str, Any] = {"dropout": 0.0}


def add_options(parser: argparse.ArgumentParser, positions: int) -> None:
    """The options of both scripts; the default of ``--positions`` differs."""
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="embedded-small")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fine-tuned", type=int, default=64, help="users that the start is fine-tuned on")
    parser.add_argument(
        "--positions", type=int, default=positions, help="users whose last training purchase is learnt from"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-4)


def make_start(options: argparse.Namespace, data: Dataset, prompt: Mapping[str, Any]) -> Path:
    """The run that every arm starts from; its folder. Made once."""
    out: Path = options.out / "start"
    fine_tune(
        data,
        out=out,
        settings={
            "model": {"name": options.model},
            "prompt": dict(prompt),
            "examples": {
                "users": options.fine_tuned,
                "cutoffs": 1,
                "negatives_per_positive": 7,
                "validate_users": 12,
                "validate_negatives": 3,
            },
            "lora": LORA,
            "trainer": {**TRAINER, "loss": "options", "batch_size": 8, "learning_rate": 3e-4},
        },
        device="cpu",
        dataset_path=options.dataset,
        resume=True,
    )
    return out


def make_arm(
    options: argparse.Namespace,
    name: str,
    seed: int,
    objective: str,
    preference: Mapping[str, Any],
    features: Mapping[str, FeatureStore] | None = None,
) -> Path:
    """One alignment from the start; its folder. Every seed learns from other users. Made once."""
    out: Path = options.out / f"{name}-{seed}"
    align_mllm(
        options.out / "start",
        out=out,
        objective=objective,
        settings={
            "preference": dict(preference),
            "pairs": {"users": options.positions, "cutoffs": 1, "users_seed": seed},
            "lora": LORA,
            "trainer": {**TRAINER, "batch_size": 4, "learning_rate": options.learning_rate},
        },
        seed=seed,
        device="cpu",
        features=features,
        resume=True,
    )
    return out
