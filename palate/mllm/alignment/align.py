"""Align a multimodal LLM on preferences: the Python call behind ``palate mllm align``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palate.data.dataset import Cases, Dataset
from palate.data.positions import training_positions
from palate.errors import PalateError
from palate.features.store import FeatureStore
from palate.mllm.alignment.config import MLLMAlignmentSettings, PairsConfig, check_alignment, examples_of
from palate.mllm.alignment.draw import NegativeSampler, open_retriever, with_dislikes
from palate.mllm.alignment.loss import PairLoss, fit_hardness, hardness_stores
from palate.mllm.alignment.noise import adapter_noise
from palate.mllm.alignment.pairs import PairData
from palate.mllm.alignment.policy import Policy
from palate.mllm.alignment.report import report_alignment
from palate.mllm.alignment.trainer import AlignmentLoss, CaseNumbers
from palate.mllm.finetune.config import ExamplesConfig
from palate.mllm.finetune.examples import sampled_users, validation_cases
from palate.mllm.finetune.option_loss import AnswerLogits, can_pack
from palate.mllm.finetune.run import check_out, random_state, run_trainer, training_device, training_run
from palate.mllm.finetune.sharding import check_sharding, loading_device
from palate.mllm.finetune.trainer import build_trainer
from palate.mllm.recommender import MLLMRecommender
from palate.runs.dataset import dataset_of
from palate.runs.log import Row
from palate.runs.run import Run
from palate.seeds import checked_seed
from palate.storage.remote import recorded, takes_urls


@takes_urls("out")
def align_mllm(
    run: Run | Path | str,
    *,
    out: Path | str,
    objective: str = "dpo",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int | None = None,
    device: str = "auto",
    retriever: Run | Path | str | None = None,
    dataset: Dataset | None = None,
    dataset_path: Path | str | None = None,
    features: Mapping[str, FeatureStore] | None = None,
    resume: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> Run:
    """Align a run of ``palate mllm`` on preferences and return the new run.

    HaNoRec (arXiv 2511.18740): its adapter becomes part of the weights, a fresh one is trained on top, and the
    reference is the model with the fresh one switched off. Any objective of :data:`palate.objectives.PREFERENCES` will
    do.

    Args:
        run: a finished run: fine-tuned, aligned already, or zero-shot (the model as it comes is then the reference).
        out: folder of the new run.
        objective: name of the objective.
        settings: by section: ``preference`` (the objective's own), ``pairs``, ``lora``, ``trainer``.
        seed: of draws, order and the adapter's first weights; by default the run's own.
        device: ``auto``, ``cpu``, ``cuda`` ...
        retriever: a run that ranks the whole catalogue, for negatives from a pool.
        dataset: what the run was made from; by default it is opened from the folder that the run recorded.
        dataset_path: its folder.
        features: feature stores by modality that hardness is made from; by default the dataset's ``text`` and
            ``image``.
        resume: continue from the last checkpoint; a finished run is returned as it is.
        on_row: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: what does not fit, before any work.
    """
    # The settings, the run and its data.
    out, place = Path(out), training_device(device)
    check_out(out, resume)
    start = _open_start(run)
    checked = check_alignment(objective, settings or {}, retriever=retriever, run=start)
    check_sharding(checked.trainer, checked.lora)
    dataset = dataset_of(start, dataset, dataset_path)
    path = dataset.folder
    seed = start.seed if seed is None else checked_seed(seed)
    learnt = examples_of(start)
    stores = hardness_stores(checked.preference, dataset, path, features)
    ranker = None if retriever is None else open_retriever(retriever, start, place)

    # The policy, and the pairs that it learns from.
    policy = Policy.open(start, loading_device(checked.trainer, place), path)
    model, recommender = policy.model, policy.recommender
    positions = _positions(start, learnt, checked.pairs)
    sampler = NegativeSampler(dataset, _cases(dataset, positions, checked), checked.pairs, checked.rejected, seed)
    pairs = PairData(policy, sampler, ranker, projector=checked.lora.projector)
    validation = validation_cases(dataset, recommender, learnt)
    typical = pairs.typical

    # What is written down of it.
    options = {
        "mllm": recommender.config.model_dump(mode="json"),
        "examples": learnt.model_dump(mode="json"),
        "alignment": {
            **checked.options,
            "positions": positions,
            "retriever": None if retriever is None else recorded(Run.opened(retriever).folder),
            "features": {name: store.fingerprint for name, store in stores.items()},
        },
    }
    identity = {"model": MLLMRecommender.name, "seed": seed, "options": options, "features": {}, "warm_start": None}
    facts = {
        "aligned_from": {"run": recorded(start.folder), "adapters": policy.adapter_digests()},
        "made_from": start.info.get("made_from"),
        "learnt": {"positions": len(sampler.cases), "validation_cases": len(validation)},
    }

    # A fresh adapter, the reference without it, the loss; training and its report.
    with random_state():
        packed = can_pack(model, typical)
        trainer = build_trainer(
            model,
            checked.lora,
            typical.case_sizes(),
            checked.trainer,
            CaseNumbers(typical.each if checked.kind == "answer" else 1),
            batch_size=checked.trainer.batch_size,
            out=out,
            device=place,
            seed=seed,
        )
        workers = trainer.workers
        if workers.main:
            checked.note_unread()
        policy.freeze(typical.answers, packed=packed, workers=workers)
        pairs.propose(workers)
        with training_run(trainer, out, identity, facts, dataset, path, resume) as aligned:
            if aligned.finished:
                return aligned
            pairs.begin(aligned.folder, resume)
            hardness = fit_hardness(checked.preference, checked.kind, stores, pairs, seed)
            noise = adapter_noise(model.model, checked.preference, seed, workers.index)
            loss = AlignmentLoss(
                pairs,
                PairLoss(checked.kind, checked.preference, seed, workers, hardness, noise),
                AnswerLogits(model, typical, remember=not (checked.lora.projector or checked.trainer.fsdp)),
                packed=packed,
                watch_every=checked.trainer.watch_every,
            )
            done = run_trainer(trainer, loss, recommender, validation, aligned, resume=resume, on_row=on_row)
            if workers.main:
                measured = {} if hardness is None else {"hardness": hardness.quantiles()}
                report, prompts = report_alignment(aligned), policy.reference.prompts
                aligned.add(finished=True, **done, alignment=report, reference_prompts=prompts, **measured)
    return Run.open(out)


def _open_start(run: Run | Path | str) -> Run:
    """The finished run of a language model that is aligned."""
    start = Run.opened(run)
    if start.info["model"] != MLLMRecommender.name:
        raise PalateError(
            f"{start.folder} is a run of '{start.info['model']}', not of a language model",
            "Align it with `palate align`.",
        )
    if not start.finished:
        raise start.unfinished()
    return start


def _positions(start: Run, learnt: ExamplesConfig, pairs: PairsConfig) -> dict[str, Any]:
    """Which positions: the settings', or else those that the run learnt from (in alignment, if it was aligned)."""
    before = start.info["options"].get("alignment", {}).get("positions", learnt.model_dump())
    own = {"users": pairs.users, "users_seed": pairs.users_seed, "cutoffs": pairs.cutoffs}
    return {name: before[name] if value is None else value for name, value in own.items()}


def _cases(dataset: Dataset, positions: Mapping[str, Any], settings: MLLMAlignmentSettings) -> Cases:
    """The positions as cases: history and chosen item.

    Raises:
        PalateError: there are none, or none with enough items to reject.
    """
    users = sampled_users(dataset, positions["users"], positions["users_seed"])
    cases = training_positions(dataset, users, positions["cutoffs"])
    if settings.pairs.strategy.source == "dislikes":
        cases = with_dislikes(dataset, cases, settings.rejected)
    if not len(cases):
        raise PalateError("no user of the sample has a training position with a history", "Take more users.")
    return cases
