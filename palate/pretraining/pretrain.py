"""One run of pretraining, from the raw embedded model to a model that has learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.mllm.lm.loading import open_model, where_is
from palate.mllm.lm.pretrained import merged
from palate.pretraining.config import PretrainConfig
from palate.pretraining.learnt import save_learnt
from palate.pretraining.training import Pretraining, checkpoint_of, identity_of
from palate.runs.run import environment
from palate.storage.files import atomic_folder, read_json, write_json
from palate.storage.lock import one_writer

FACTS, LEARNT, MODEL = "pretraining.json", "learnt", "model"


def pretrain(
    out: Path | str,
    config: PretrainConfig,
    seed: int = 0,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Teach a model of the LLaVA family to see, write and recommend; called again, it goes on where it was.

    Args:
        out: folder of the run: ``learnt/`` (adapter and projector) and ``model/``, which ``--model`` takes, are in it
            when training is done; ``metrics.jsonl`` and ``pretraining.json`` tell of it.
        seed: of the adapter's first weights and of what is drawn from the worlds.

    Returns:
        The facts in ``pretraining.json``.

    Raises:
        PalateError: the folder holds another run, another family of models, a loss that is not finite.
    """
    out = Path(out)
    if config.start is not None:
        checkpoint_of(config.start)
    chat = open_model(config.model)
    if not chat.traits.two_layer_projector or not hasattr(chat.core.model, "multi_modal_projector"):
        raise PalateError(
            f"'{config.model}' ({chat.family}) has no projector to teach", "Choose embedded-raw or embedded-small-raw."
        )
    out.mkdir(parents=True, exist_ok=True)
    with one_writer(out, True):
        facts = {
            "model": config.model,
            "fingerprint": chat.fingerprint,
            "seed": seed,
            "options": config.model_dump(),
            "environment": environment(),
        }
        identity = identity_of(chat, config, seed)
        if (out / FACTS).is_file():
            found: dict[str, Any] = read_json(out / FACTS)
            if found["identity"] != identity:
                raise PalateError(f"{out} holds another pretraining", "Choose another --out, or the same options.")
            if (out / MODEL).is_dir():
                return found
        write_json(out / FACTS, {**facts, "identity": identity})
        training = Pretraining(chat, config, seed, out)
        if not training.load_checkpoint(identity) and config.start is not None:
            training.begin_with(checkpoint_of(config.start))
        training.run(identity, on_row)
        training.swap()
        with atomic_folder(out / LEARNT, replace=True) as folder:
            save_learnt(training.peft, training.projector, config.model, folder)
        facts |= {
            "identity": identity,
            "seconds": round(training.seconds, 1),
            "tokens": training.tokens,
            "last": training.rows[-1],
        }
        with atomic_folder(out / MODEL, replace=True) as folder:
            merged(out / LEARNT, Path(where_is(config.model)["pretrained_model_name_or_path"]), folder)
        write_json(out / FACTS, facts)
    return facts
