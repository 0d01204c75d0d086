"""Options of other commands as a recipe has them: checked by the commands themselves, and turned into words."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.shared.options import read_table
from palate.errors import PalateError, suggest
from palate.experiments.plan import CheckedOptions

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

# What `palate compare` gives to every command itself.
_OURS = {"dataset", "run", "runs", "out", "seed", "resume", "config", "base", "split", "json"}
# Options of `palate align` that stand for settings.
_ALIGN = (
    *("pool_k", "num_negatives", "beta", "weight", "temperature", "mask_future_train"),
    *("epochs", "device"),
)


class Commands:
    """Reads tables of options for the commands of a comparison.

    Args:
        folder: the dataset's folder.
        threads: given to every command that takes it, whatever the recipe says.
    """

    def __init__(self, folder: Path, dataset: Dataset, threads: int | None = None) -> None:
        self.folder, self.dataset, self.threads = folder, dataset, threads

    def __call__(self, command: str, table: dict[str, Any], where: str) -> CheckedOptions:
        """Words and what decides the result; everything is checked that can be without the run it starts from."""
        values, settings = self.spelling(command, table, where)
        if command == "train":  # an arm reads what the recipe says, whatever happens to be encoded
            values = {"modalities": "id", "neighbours": "none", **values}
        context = _context(command)
        if self.threads is not None and any(one.name == "threads" for one in context.command.params):
            values["threads"] = self.threads
        typed = {
            str(one.name): one.process_value(context, values[one.name])
            for one in context.command.params
            if one.name in values
        }
        try:
            decides = getattr(self, f"_{command.replace(' ', '_')}")(typed, settings)
        except PalateError as error:
            raise PalateError(f"{where}: {error.message}", error.remedy) from None
        return CheckedOptions(
            [*_words(command, values), *(word for one in settings for word in ("--set", one))], decides
        )

    def spelling(self, command: str, table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
        """Values by parameter name and words for ``--set``, each option checked by its own type."""
        for key in table:
            # A train table may say `split = ...` or the like as an option one day; what is ours is named plainly.
            if key in (_OURS if command == "evaluate" else _OURS - {"base", "split"}):
                raise PalateError(f"{where}: '{key}' is given by `palate compare` itself", "Leave it out.")
        return read_table(_context(command), table, where)

    def defaults(self, command: str, table: dict[str, Any], where: str) -> dict[str, Any]:
        """A command's values with its defaults for what the table leaves out."""
        values, _ = self.spelling(command, table, where)
        context = _context(command)
        return {
            str(one.name): one.process_value(context, values[one.name])
            if one.name in values
            else one.get_default(context, call=True)
            for one in context.command.params
        }

    def _train(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """All options of a training, defaults included; refused is what the command would refuse."""
        from palate.cli.shared.content import listed
        from palate.cli.train import train_settings
        from palate.features.folders import open_features
        from palate.features.neighbours import open_source
        from palate.training.plan import add_fields, make_plan

        if "model" not in given:
            raise PalateError("'model' is missing", "Name the model.")
        model = given["model"]
        encoder = {name: given.get(name) for name in ("epochs", "device", "encoder_ffn", "experts", "active")}
        settings = train_settings(assignments, model, **encoder)
        names, sources = listed(str(given.get("modalities", "id"))), listed(str(given.get("neighbours", "none")))
        plan = make_plan(
            model, names, given.get("missing", "learned"), given.get("objective", "cross-entropy"), settings, sources
        )
        opened = open_features(self.folder, self.dataset.catalogue, names, list(given.get("store") or []))
        stores: dict[str, Any] = dict(add_fields(plan.ranker, self.dataset, opened))
        if hasattr(plan.kind, "features_read"):
            stores |= plan.kind.features_read(replace(self.dataset, folder=self.folder), plan.ranker)
        near = {name: open_source(self.dataset, name, self.folder) for name in plan.neighbours.sources}
        found = {name: store.fingerprint for name, store in near.items() if store is not None}
        return {
            **({"neighbours": found} if near else {}),
            "model": model,
            "options": plan.options,
            "features": {name: store.fingerprint for name, store in stores.items()},
            "warm_start": str(given["warm_start"]) if given.get("warm_start") else None,
        }

    def _attach(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """Neighbours of a run, defaults included."""
        from palate.cli.shared.content import listed
        from palate.cli.shared.options import parse_assignments
        from palate.features.neighbours import open_source
        from palate.training.plan import neighbours_config

        settings = parse_assignments(assignments)
        config = neighbours_config(settings.get("neighbours", {}), listed(str(given.get("neighbours", ""))))
        near = {name: open_source(self.dataset, name, self.folder) for name in config.sources}
        stores = {name: store.fingerprint for name, store in near.items() if store is not None}
        return {"neighbours": config.model_dump(mode="json"), "stores": stores}

    def _align(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """All options of an alignment but those that it takes over from its run."""
        from palate.alignment.pairs import AlignConfig
        from palate.alignment.plan import SECTIONS, TRAINER, preference_for_rankers
        from palate.alignment.twins import twin_origin
        from palate.cli.align import align_settings
        from palate.negatives.config import NegativesConfig
        from palate.training.config import TrainerConfig

        objective, strategy = given.get("objective", "dpo"), given.get("negatives", "top-k")
        settings = align_settings(assignments, **{name: given[name] for name in _ALIGN if name in given})
        for section in settings:
            if section not in SECTIONS:
                raise PalateError(f"unknown section '{section}' in the settings", suggest(section, SECTIONS))
        trainer = {**TRAINER, **settings.get("trainer", {})}
        TrainerConfig.parse(trainer, where="settings [trainer]")
        align = AlignConfig.parse(settings.get("align", {}), where="settings [align]")
        drawn = {**settings.get("negatives", {}), "strategy": strategy}
        negatives = NegativesConfig.parse(drawn, where="settings [negatives]")
        decides: dict[str, Any] = {
            "objective": objective,
            "align": align.model_dump(mode="json"),
            "trainer": trainer,
            "reference": str(given["reference"]) if given.get("reference") else None,
        }
        if objective == "none":
            if settings.get("preference") or settings.get("negatives"):
                raise PalateError(
                    "--objective none has no pairs",
                    "Leave out the settings of preference and negatives; shared = false leaves out those of [align].",
                )
            return decides
        kind = preference_for_rankers(objective).Config
        preference = kind.parse(settings.get("preference", {}), where=f"settings [preference] of {objective}")
        negatives.check_catalogue(int((self.dataset.train_counts > 0).sum()))
        if negatives.chosen.source == "dislikes" and self.dataset.dislikes is None:
            raise PalateError(
                "the dataset keeps no dislikes", "Prepare it with --min-rating and --disliked-at-most, from rated data."
            )
        decides["preference"] = preference.model_dump(mode="json")
        decides["negatives"] = negatives.model_dump(mode="json")
        return decides | twin_origin(negatives, self.dataset, self.folder)

    def _evaluate(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """All options of an evaluation that its figures hang on, defaults included."""
        from palate.storage.files import file_digest

        context = _context("evaluate")
        decides = {
            str(one.name): given.get(str(one.name), one.get_default(context, call=True))
            for one in context.command.params
            if one.name not in (*_OURS, "device", "threads", "help", "json_")
        }
        if str(decides["candidates"]).endswith(".npz"):
            decides["candidates"] = file_digest(decides["candidates"])
        return decides

    def _blend(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """All options of a blend; the runs that it is made of are known by their own keys."""
        from palate.training.blend import check_fit

        context = _context("blend")
        decides = {name: given.get(name, _default(context, name)) for name in ("fit", "users", "exclude_seen")}
        check_fit(decides["fit"])
        return decides

    def _mllm_sft(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """All options of a fine-tuning, defaults included."""
        from palate.cli.llm.settings import SFT, settings_from
        from palate.mllm.finetune.sft import SFTPlan

        if "model" not in given:
            raise PalateError("'model' is missing", "Name the language model.")
        plan = SFTPlan.of(settings_from(given, assignments, SFT))
        return {
            "model": plan.model.model_dump(mode="json"),
            "prompt": plan.prompt.model_dump(mode="json"),
            **plan.options,
            "scoring": plan.scoring,
            **{name: str(given[name]) for name in ("summaries", "item_summaries", "prompts") if given.get(name)},
        }

    def _mllm_align(self, given: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
        """All options of an alignment of a language model but those that it takes over from its run."""
        from palate.cli.llm.settings import ALIGN, settings_from
        from palate.mllm.alignment.config import check_alignment
        from palate.mllm.alignment.loss import hardness_stores
        from palate.storage.files import file_digest

        retriever = given.get("retriever")
        checked = check_alignment(
            given.get("objective", "dpo"), settings_from(given, assignments, ALIGN), retriever=retriever
        )
        decides = checked.options
        if retriever and (Path(retriever) / "run.json").is_file():  # an arm that proposes is part of the key already
            decides["retriever"] = file_digest(Path(retriever) / "run.json")
        if checked.preference.needs_hardness:
            stores = hardness_stores(checked.preference, self.dataset, self.folder)
            decides["features"] = {name: store.fingerprint for name, store in stores.items()}
        return decides


@cache
def _context(command: str) -> Any:
    from palate.cli.commands import build

    found: Any = typer.main.get_command(build())
    for word in command.split():
        known = vars(found)["commands"]
        if word not in known:
            raise PalateError(f"this Palate has no command '{command}'", suggest(word, known))
        found = known[word]
    return found.context_class(found, info_name=command)


def _default(context: Any, name: str) -> Any:
    return next(one for one in context.command.params if one.name == name).get_default(context, call=True)


def _words(command: str, values: dict[str, Any]) -> list[str]:
    """The command-line words of values by parameter name."""
    words: list[str] = []
    for parameter in _context(command).command.params:
        if parameter.name not in values:
            continue
        value = values[parameter.name]
        name = next(one for one in parameter.opts if one.startswith("--"))
        if getattr(parameter, "is_flag", False):
            words += [name] if value else list(parameter.secondary_opts)[:1]
        elif parameter.multiple:
            words += [word for one in value for word in (name, str(one))]
        else:
            words += [name, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words
