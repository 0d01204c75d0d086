"""``palate mllm warm-up``: the embedded model learns what the catalogue's pictures show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed, Threads, set_threads
from palate.cli.shared.output import print_json_made
from palate.errors import PalateError, suggest

_WARM_UP = (
    Fields("palate.mllm.warmup.captions:CaptionConfig", "fields", section="caption"),
    Fields(
        "palate.mllm.warmup.training:WarmUpConfig",
        *("epochs", "steps", "batch_size", "learning_rate", "max_items", "dtype", "device"),
        section="trainer",
    ),
)
_SECTIONS = ("caption", "trainer")


@from_config(*_WARM_UP)
def warm_up(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`, with pictures.")],
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new model: --model DIR takes it.")],
    model: Annotated[
        str, typer.Option(metavar="{embedded,embedded-small}", help="Or a folder or hub name of the LLaVA family.")
    ] = "embedded",
    settings: Settings,
    threads: Threads = None,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Teach the embedded model's projector to caption the catalogue's own pictures; nothing else changes.

    The embedded model has seen drawn products only. Held-out items show whether it uses pictures: their captions must
    be likelier with their own pictures than with others'.

    For example: palate mllm warm-up data/shop --out models/warm
    """
    from palate.data.dataset import Dataset
    from palate.mllm.lm.loading import need_transformers
    from palate.mllm.warmup.captions import CaptionConfig
    from palate.mllm.warmup.training import WarmUpConfig

    need_transformers()
    from palate.mllm.warmup.warm_up import warm_up as train

    for section in settings:
        if section not in _SECTIONS:
            raise PalateError(f"--set {section}...: there is no such section", suggest(section, _SECTIONS))
    set_threads(threads)
    facts = train(
        Dataset.load(dataset),
        out=out,
        model=model,
        seed=seed,
        caption_config=CaptionConfig.parse(settings.get("caption", {}), where="--set caption"),
        config=WarmUpConfig.parse(settings.get("trainer", {}), where="--set trainer"),
        dataset_path=dataset,
    )
    _report(facts, out, json_)


def _report(facts: dict[str, Any], out: Path, json_: bool) -> None:
    from palate.console import open_console, print_warning

    if json_:
        print_json_made(out, facts)
        return
    console = open_console(highlight=False, soft_wrap=True)
    before, after = facts["held_out"]["before"], facts["held_out"]["after"]
    items = facts["items"]["telling"]
    console.print(f"Learnt, for example: {facts['example']}")
    console.print(
        f"Loss per token on {items} items never learnt from: {before['own_picture']:.3f} before, "
        f"{after['own_picture']:.3f} after; with another item's picture {after['other_picture']:.3f}."
    )
    gap, error = after["gap"], after["gap_standard_error"]
    console.print(
        f"Its own picture makes a caption likelier by {gap:.3f} ± {1.96 * error:.3f} per token "
        f"({after['own_is_likelier']:.0%} of the items; 50% is chance)."
    )
    if gap < 1.96 * error:
        print_warning(
            open_console(stderr=True), "this does not prove that it uses pictures: train longer, or on more items."
        )
    console.print(f"Model: {out}  (next: palate mllm sft DATASET --model {out})")
