"""Which options of a command decide its result: what a comparison knows its runs by, defaults included.

Every function is given the command's context, its values by parameter name, what ``--set`` was given, and the recipe's
reader with the dataset and its folder. It refuses what the command would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.cli.shared.content import listed
from palate.cli.shared.from_config import settings_of
from palate.errors import PalateError

if TYPE_CHECKING:
    from palate.cli.recipe_words import RecipeWords

Values = dict[str, Any]


def _train(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """All options of a training."""
    from palate.cli.train import check_layers
    from palate.features.folders import open_features
    from palate.rankers.fitted import FittedRanker
    from palate.training.plan import add_fields, make_plan

    model, names, sources = _required(values, "model"), listed(values["modalities"]), listed(values["neighbours"])
    settings = settings_of(context.command.callback.groups, values, assignments)
    check_layers(model, settings)
    objective = values.get("objective", "cross-entropy")
    plan = make_plan(model, names, values.get("missing", "learned"), objective, settings, sources)
    opened = open_features(recipe.folder, recipe.dataset.catalogue, names, list(values.get("store") or []))
    stores: dict[str, Any] = dict(add_fields(plan.ranker, recipe.dataset, opened))
    if issubclass(plan.kind, FittedRanker):
        stores |= plan.kind.features_read(replace(recipe.dataset, folder=recipe.folder), plan.ranker)
    near = {"neighbours": _neighbour_stores(plan.neighbours.sources, recipe)} if plan.neighbours.sources else {}
    return {
        **near,
        "model": model,
        "options": plan.options,
        "features": {name: store.fingerprint for name, store in stores.items()},
        "warm_start": _text(values, "warm_start"),
    }


def _attach(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """Neighbours of a run."""
    from palate.cli.shared.options import parse_assignments
    from palate.training.plan import neighbours_config

    settings = parse_assignments(list(assignments))
    config = neighbours_config(settings.get("neighbours", {}), listed(values.get("neighbours", "")))
    return {"neighbours": config.model_dump(mode="json"), "stores": _neighbour_stores(config.sources, recipe)}


def _align(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """All options of an alignment but those that it takes over from its run."""
    from palate.alignment.settings import AlignmentSettings

    settings = settings_of(context.command.callback.groups, values, assignments)
    checked = AlignmentSettings.parse(values.get("objective", "dpo"), values.get("negatives", "top-k"), settings)
    options = checked.check_dataset(recipe.dataset, recipe.folder)
    return {**options, "trainer": checked.trainer, "reference": _text(values, "reference")}


def _evaluate(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """All options of an evaluation that its figures depend on."""
    from palate.storage.files import file_digest

    # The comparison's own options, and those that change no figure.
    other = {"dataset", "runs", "out", "seed", "config", "base", "split", "device", "threads"}
    other |= {"help", "json_", "quiet", "format_", "caption", "label", "publish"}
    names = [str(one.name) for one in context.command.params if one.name not in other]
    decides = {name: values.get(name, _default(context, name)) for name in names}
    if str(decides["candidates"]).endswith(".npz"):
        decides["candidates"] = file_digest(decides["candidates"])
    return decides


def _blend(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """All options of a blend; the runs that it is made of are known by their own keys."""
    from palate.training.blend import check_fit

    decides = {name: values.get(name, _default(context, name)) for name in ("fit", "users", "exclude_seen")}
    check_fit(decides["fit"])
    return decides


def _mllm_sft(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """All options of a fine-tuning."""
    from palate.mllm.components import open_prompts
    from palate.mllm.finetune.sft import SFTPlan

    _required(values, "model")
    plan = SFTPlan.of(settings_of(context.command.callback.groups, values, assignments))
    shown = {name: values.get(name) for name in ("prompts", "summaries", "item_summaries")}
    if (options := f"{plan.prompt!r} {shown}") not in recipe.checked:
        open_prompts(recipe.dataset, plan.prompt, dataset_path=recipe.folder, **shown)
        recipe.checked.add(options)
    return {
        "model": plan.model.model_dump(mode="json"),
        "prompt": plan.prompt.model_dump(mode="json"),
        **plan.options,
        "scoring": plan.scoring,
        **{name: str(values[name]) for name in ("summaries", "item_summaries", "prompts") if values.get(name)},
    }


def _mllm_align(context: Any, values: Values, assignments: Sequence[str], recipe: RecipeWords) -> Values:
    """All options of an alignment of a language model but those that it takes over from its run."""
    from palate.mllm.alignment.config import check_alignment
    from palate.mllm.alignment.loss import hardness_stores
    from palate.storage.files import file_digest

    retriever = values.get("retriever")
    settings = settings_of(context.command.callback.groups, values, assignments)
    checked = check_alignment(values.get("objective", "dpo"), settings, retriever=retriever)
    decides = checked.options
    if retriever and (Path(retriever) / "run.json").is_file():  # an arm that proposes is part of the key already
        decides["retriever"] = file_digest(Path(retriever) / "run.json")
    if checked.preference.needs_hardness:
        stores = hardness_stores(checked.preference, recipe.dataset, recipe.folder)
        decides["features"] = {name: store.fingerprint for name, store in stores.items()}
    return decides


# By the command's name.
DECIDING: dict[str, Callable[[Any, Values, Sequence[str], RecipeWords], Values]] = {
    "train": _train,
    "attach": _attach,
    "align": _align,
    "evaluate": _evaluate,
    "blend": _blend,
    "mllm sft": _mllm_sft,
    "mllm align": _mllm_align,
}


def _required(values: Values, name: str) -> str:
    if name not in values:
        raise PalateError(f"'{name}' is missing", "Name the model.")
    return str(values[name])


def _text(values: Values, name: str) -> str | None:
    return str(values[name]) if values.get(name) else None


def _default(context: Any, name: str) -> Any:
    return next(one for one in context.command.params if one.name == name).get_default(context, call=True)


def _neighbour_stores(sources: Sequence[str], recipe: RecipeWords) -> dict[str, str]:
    """The fingerprints of the feature stores among sources of neighbours."""
    from palate.features.neighbours import open_source

    opened = {name: open_source(recipe.dataset, name, recipe.folder) for name in sources}
    return {name: store.fingerprint for name, store in opened.items() if store is not None}
