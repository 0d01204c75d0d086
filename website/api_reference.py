"""The API reference: which public names are on which page. mkdocstrings writes them out from their docstrings."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from palate import _CALLS
from palate.registry import Registry


def parts(registry: str) -> list[str]:
    """Dotted names of a registry's built-in parts, in its own order: ``"palate.objectives:OBJECTIVES"``."""
    module, _, name = registry.partition(":")
    found: Registry = getattr(import_module(module), name)
    return [part.replace(":", ".") for part in found._builtin.values() if isinstance(part, str)]


def names(module: str, *public: str) -> list[str]:
    """Dotted names of a module: ``names("palate.config", "Config")`` is ``["palate.config.Config"]``."""
    return [f"{module}.{name}" for name in public]


@dataclass(frozen=True)
class Reference:
    """One page: what it says at its head, and headings with the names below them."""

    title: str
    about: str
    sections: dict[str, list[str]]

    def markdown(self) -> str:
        text = f"# {self.title}\n\n{self.about}\n"
        for heading, identifiers in self.sections.items():
            text += f"\n## {heading}\n" if heading else ""
            text += "".join(f"\n::: {name}\n" + "    options: { heading_level: 3 }\n" for name in identifiers)
        return text


def references() -> dict[str, Reference]:
    """File of the page -> the page. Parts that can be chosen by name are those of the registries."""
    calls = [f"{module}.{name}" for name, module in _CALLS.items()]
    return {
        "palate": Reference(
            "The calls", "What `from palate import ...` offers: the calls behind the commands.", {"": calls}
        ),
        "data": Reference(
            "Data",
            "Readers, filters, splits and the doctor. The dataset itself is on the page of [the calls](palate.md).",
            {
                "What all readers have": names("palate.data.readers.base", "Reader", "Source", "ReaderOptions"),
                "Readers": parts("palate.data.readers:READERS"),
                "Filters and splits": [
                    *names("palate.data.filters", "Filters", "apply"),
                    *names("palate.data.dataset", "Part", "Cases"),
                ],
                "The doctor": [
                    *names("palate.data.doctor.examine", "examine", "DoctorReport"),
                    *names("palate.data.doctor.finding", "Finding", "Level"),
                ],
            },
        ),
        "features": Reference(
            "Features",
            "Texts and pictures to vectors.",
            {
                "": [
                    *names("palate.features.encoders", "Encoder", "EncoderOptions"),
                    "palate.features.neighbours.neighbour_list",
                ]
            },
        ),
        "rankers": Reference(
            "Rankers",
            "Everything that scores items is a `Recommender`; rankers are those that `palate train --model` knows.",
            {
                "The protocol": [
                    *names("palate.recommender", "Recommender", "as_sequences"),
                    *names("palate.rankers.fitted", "FittedRanker"),
                ],
                "Rankers": parts("palate.rankers.registry:RANKERS"),
                "Items": names("palate.rankers.items", "ItemEncoder"),
                "Fusions of modalities": parts("palate.rankers.fusions:FUSIONS"),
                "Settings": [
                    *names("palate.rankers.config", "SequentialConfig"),
                    *names("palate.training.config", "TrainerConfig", "NeighboursConfig"),
                ],
                "Saving a ranker of your own": names("palate.rankers.stored", "read_model", "write_model"),
                "Registries and settings": ["palate.registry.Registry", "palate.config.Config"],
            },
        ),
        "objectives": Reference(
            "Objectives",
            "Pure functions of scores: what training and alignment minimise.",
            {
                "What losses are made of": names("palate.objectives.base", "Scores", "Batch", "Loss", "Objective"),
                "Objectives of training": parts("palate.objectives:OBJECTIVES"),
                "What preferences are made of": names(
                    "palate.objectives.preference", "Pairs", "Preference", "PreferenceLoss", "pair_weights", "row_mean"
                ),
                "Objectives of alignment": parts("palate.objectives:PREFERENCES"),
                "Settings of alignment": ["palate.alignment.config.AlignConfig"],
            },
        ),
        "negatives": Reference(
            "Negatives",
            "How the items are chosen that were not the answer.",
            {
                "What all strategies have": names("palate.negatives.base", "NegativeStrategy", "WeightedStrategy"),
                "Strategies": parts("palate.negatives:NEGATIVES"),
            },
        ),
        "evaluation": Reference(
            "Evaluation",
            "Ranks, metrics and comparisons. `evaluate` is on the page of [the calls](palate.md).",
            {
                "Results": ["palate.evaluation.result.Result", "palate.evaluation.ranks.Ranks"],
                "Comparing": [
                    *names(
                        "palate.evaluation.compare", "Group", "compare", "Comparison", "Difference", "primary_metric"
                    ),
                    "palate.evaluation.tables.to_markdown",
                    *names("palate.evaluation.statistics", "Estimate", "bootstrap", "holm"),
                ],
                "Protocols": ["palate.evaluation.settings.EvaluationSettings", "palate.evaluation.users.UserSample"],
                "What all metrics have": names("palate.evaluation.metrics.base", "Metric", "metric"),
                "Metrics": parts("palate.evaluation.metrics:METRICS"),
            },
        ),
        "language-models": Reference(
            "Language models",
            "Fine-tuning, alignment, prompts and backends of multimodal language models.",
            {
                "Loading": ["palate.mllm.lm.loading.open_model", "palate.mllm.lm.options.ModelOptions"],
                "Fine-tuning and alignment": [
                    *names("palate.mllm.finetune.sft", "SFTPlan", "fine_tune"),
                    "palate.mllm.alignment.align.align_mllm",
                    "palate.mllm.alignment.config.MLLMAlignmentSettings",
                ],
                "Prompts": [
                    *names("palate.mllm.prompts.prompter", "Prompter", "PromptOptions"),
                    "palate.mllm.prompts.templates.Templates",
                    "palate.mllm.prompts.items.Items",
                    *names("palate.mllm.prompts.chat", "Chat", "Picture"),
                ],
                "Summaries": [
                    "palate.mllm.summaries.items.ItemSummaries",
                    "palate.mllm.summaries.preferences.Preferences",
                ],
                "Backends": [
                    "palate.mllm.backends.open_backend",
                    *names("palate.mllm.backends.base", "Backend", "ModelRequest", "Reply"),
                ],
                "Families": ["palate.mllm.lm.families.Family"],
                "Cascades": ["palate.cascade.cascade.Cascade", "palate.cascade.choose_weight.choose_blend"],
            },
        ),
        "serving": Reference(
            "Bundles and serving",
            "`Bundle` is on the page of [the calls](palate.md).",
            {
                "Bundles": [
                    "palate.bundle.make.make_bundle",
                    *names("palate.bundle.add", "add_items", "Added"),
                    "palate.bundle.load.Recommended",
                    "palate.bundle.items.BundleItems",
                    "palate.bundle.hub.push",
                ],
                "The service": [
                    "palate.serve.app.create_app",
                    "palate.serve.config.ServeConfig",
                    "palate.serve.service.Service",
                    "palate.serve.server.run",
                ],
            },
        ),
    }


def reference_pages() -> dict[str, str]:
    """Path in the site -> Markdown."""
    return {f"reference/{name}.md": reference.markdown() for name, reference in references().items()}
