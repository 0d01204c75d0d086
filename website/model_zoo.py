"""Writes docs/model-zoo.md from the registries: ``make zoo``.

The lines are those of ``palate models``; a plug-in that is installed is left out, because the page is about Palate.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from palate.cli.models import REGISTRIES, _embedded, _line
from palate.config import Config
from palate.mllm.lm.families import FAMILIES, Family
from palate.objectives.preference import PreferenceConfig
from palate.rankers.append import overridden
from palate.rankers.config import SequentialConfig
from palate.rankers.fitted import FittedRanker
from palate.rankers.trained import TrainedRanker
from palate.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "model-zoo.md"
HEAD = """\
# Model zoo

Everything that can be chosen by name. This page is written from the registries of the code by `make zoo`; `palate
models` prints the same, plug-ins included. What the models are worth on real data: [results](results.md). A model of
your own is one file and one line: [extending](extending.md).
"""
# Kind of a registry -> heading, the option that chooses a part, the page about it.
SECTIONS = {
    "rankers": (
        "Rankers",
        "`palate train DATASET --model NAME`; a blend is made by `palate blend`, a language model by `palate mllm sft`",
        "training.md",
    ),
    "fusions": ("Fusions of modalities", "`palate train --set ranker.fusion=NAME`", "training.md"),
    "objectives": ("Objectives of training", "`palate train --objective NAME`", "training.md"),
    "preferences": ("Objectives of alignment", "`palate align RUN --objective NAME`", "objectives.md"),
    "negatives": (
        "Negatives",
        "`palate align RUN --negatives NAME`; training, language models and sampled evaluation have the same names",
        "alignment.md",
    ),
    "encoders": (
        "Encoders",
        "`palate encode DATASET --text NAME --image NAME`; besides these, any sentence-transformers, CLIP, SigLIP or "
        "DINO model of a hub or a folder",
        "features.md",
    ),
    "metrics": ("Metrics", "`palate evaluate RUNS --metrics NAME@K`", "evaluation.md"),
    "readers": ("Readers", "`palate prepare SOURCE --reader NAME`", "data.md"),
    "backends": ("Backends", "`palate summarise items DATASET --backend NAME`", "backends.md"),
}
# Settings that several parts share, and what they are called on the page.
SHARED = {SequentialConfig: "those of every neural ranker", PreferenceConfig: "those of every alignment"}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines) + "\n"


def source_of(part: Any) -> str:
    """Link to the file of a part."""
    maker = part if hasattr(part, "__qualname__") else getattr(part, "function", type(part))
    path = Path(inspect.getfile(maker)).resolve().relative_to(ROOT)
    return f"[`{path.name}`](../{path.as_posix()})"


def settings_of(part: Any) -> str:
    """The settings of a part's own ``Config`` with their defaults, without those that several parts share."""
    config = getattr(part, "Config", None)
    if config is None:
        return ""
    shared = next((base for base in SHARED if issubclass(config, base)), None)
    own = {name: field for name, field in config.model_fields.items() if not shared or name not in shared.model_fields}
    shown = [f"`{name}={shown_default(field)}`" for name, field in own.items()]
    return ", ".join(shown)


def shown_default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if field.is_required() or isinstance(value, Config):
        return "..."
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def reads_content(ranker: Any) -> str:
    """Whether a ranker reads what texts and pictures were encoded to."""
    if not ranker.whole_catalogue:
        return "texts and pictures; orders candidates"
    reads = issubclass(ranker, FittedRanker) and "features_read" in overridden(ranker, "FittedRanker")
    return "yes" if reads or issubclass(ranker, TrainedRanker) else ""


def section(kind: str) -> str:
    """Heading, option and table of one registry's built-in parts."""
    title, option, page = SECTIONS[kind]
    module, _, name = REGISTRIES[kind].partition(":")
    registry: Registry = getattr(import_module(module), name)
    parts = {name: registry[name] for name in registry._builtin}
    columns: dict[str, list[str]] = {"name": [f"`{name}`" for name in parts]}
    columns["what it is"] = [_line(registry, name) for name in parts]
    if kind == "rankers":
        columns["content"] = [reads_content(part) for part in parts.values()]
    if any(hasattr(part, "Config") for part in parts.values()):
        columns["settings of its own"] = [settings_of(part) for part in parts.values()]
    columns["file"] = [source_of(part) for part in parts.values()]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return f"## {title}\n\n{option}. More: [{Path(page).stem}]({page}).\n\n{table(list(columns), rows)}"


def shared_settings() -> str:
    lines = [
        f"- {words}: " + ", ".join(f"`{name}={shown_default(field)}`" for name, field in config.model_fields.items())
        for config, words in SHARED.items()
    ]
    return "Settings that several parts share:\n\n" + "\n".join(lines) + "\n"


def language_models() -> str:
    """Families that need a row of their own, and what is embedded."""
    families: dict[str, Family] = {name: FAMILIES[name] for name in FAMILIES._builtin}
    default, rows = Family(), []
    for name, family in families.items():
        differs = [key.replace("_", " ") for key, value in vars(family).items() if value != getattr(default, key)]
        rows.append([f"`{name}`", ", ".join(differs)])
    return (
        "## Language models\n\n`palate mllm sft DATASET --model NAME`: `embedded`, `embedded-small`, a folder, or any "
        "chat model of a hub as `OWNER/NAME`. Tested families, memory and precision: [mllm-models](mllm-models.md). "
        "Most families need nothing; these have a row in [`families.py`](../palate/mllm/lm/families.py), because they "
        "differ in something that cannot be found out:\n\n" + table(["family", "what differs"], rows)
    )


def embedded_weights() -> str:
    rows = [
        [f"`{one['package']}` {one['version']}", one["what"], f"{one['megabytes']} MB", one["licence"], one["used_by"]]
        for one in _embedded()
    ]
    text = "## Embedded weights\n\nPackages that `palate models install --with-llm` installs.\n\n"
    return text + table(["package", "what", "size", "licence", "used by"], rows)


def model_zoo() -> str:
    """The whole page."""
    tables = {kind: section(kind) for kind in SECTIONS}
    tables["preferences"] += "\n" + shared_settings()
    tables["encoders"] += "\n" + language_models() + "\n" + embedded_weights()
    return HEAD + "\n" + "\n".join(tables.values())


if __name__ == "__main__":
    PAGE.write_text(model_zoo(), encoding="utf-8")
