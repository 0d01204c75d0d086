"""What families of language models do differently: one row per family, by what its configuration calls ``model_type``.

Most of a family is found out and needs no row: whether it takes pictures (transformers' mapping), how its processor
lays pictures out (:mod:`palate.mllm.lm.image_tensors`), what its head does (:mod:`palate.mllm.scoring.head`), whether a
shared prefix can be read once. A family without a row has the defaults of :class:`Family`. A row from outside is an
entry point of the group ``palate.families``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.registry import Registry


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        nested_images: its processor takes pictures as one list per chat.
        answer_values: of tensors with one value per token, by name: the value of an answer's tokens where it is not 0.
        separate_images: its image encoder sees every picture on its own and gives ``[pictures, 3, height, width]`` ->
            one matrix per picture, so that features can be kept.
        two_layer_projector: ``multi_modal_projector`` is ``linear_1``, ``act``, ``linear_2``, which warm-up trains.
        projectors: names of the modules between pictures and language.
        video_packages: packages that its processor imports for videos and misses at once where they are not installed.
        thought: the marks around a thought, where they are not ``<think>`` or ``<thinking>``.
    """

    nested_images: bool = False
    answer_values: Mapping[str, int] = field(default_factory=dict)
    separate_images: bool = False
    two_layer_projector: bool = False
    projectors: tuple[str, ...] = ("multi_modal_projector", "connector", "merger", "deepstack_merger_list")
    video_packages: tuple[str, ...] = ()
    thought: tuple[str, str] | None = None


FAMILIES: Registry[Family] = Registry(
    "families",
    {
        "gemma4": Family(thought=("<|channel>thought", "<channel|>")),
        # A thought is one message, the answer another.
        "gpt_oss": Family(thought=("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")),
        "idefics2": Family(nested_images=True),
        "idefics3": Family(nested_images=True),
        "llava": Family(separate_images=True, two_layer_projector=True),
        "llava_onevision": Family(nested_images=True),
        "mistral": Family(thought=("[THINK]", "[/THINK]")),  # Magistral
        "mllama": Family(nested_images=True),
        # A prompt (0) sees all of itself, forward too; an answer (1) sees what is before it.
        "paligemma": Family(answer_values={"token_type_ids": 1}),
        "seed_oss": Family(thought=("<seed:think>", "</seed:think>")),
        "smolvlm": Family(nested_images=True, video_packages=("num2words",)),
    },
    noun="family",
)


def family_of(model_type: str) -> Family:
    """The row of a family; the defaults for one without."""
    return FAMILIES[model_type] if model_type in FAMILIES else Family()


def thought_marks() -> list[tuple[str, str]]:
    """Every pair of marks around thoughts: which family a server's model is of, nobody says."""
    rows = [FAMILIES[name] for name in FAMILIES]
    return [("<think>", "</think>"), ("<thinking>", "</thinking>"), *(row.thought for row in rows if row.thought)]
