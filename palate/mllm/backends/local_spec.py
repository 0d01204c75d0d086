"""Any chat model of transformers, in this process; and the record by which the very same one is opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from palate.config import Config
from palate.errors import PalateError
from palate.mllm.backends.local import LocalBackend
from palate.mllm.lm.chat_template import TemplateKwargs
from palate.mllm.lm.embedded import EMBEDDED_MODELS
from palate.mllm.lm.loading import LONGEST, open_model
from palate.mllm.lm.options import ModelOptions
from palate.storage.remote import find, follow, is_url, recorded

_REMEDY = "Write the preferences with `palate summarise users`."


def open_local(
    model: str | None,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    quantisation: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    adapter: Path | None = None,
    longest: int | None = LONGEST,
    chat_template_kwargs: dict[str, Any] | None = None,
    batch_size: int = 8,
    attempts: int = 2,
    temperature: float = 0.0,
    seed: int = 0,
    no_repeat_ngram_size: int = 0,
) -> LocalBackend:
    """Open a model of a hub or a folder as a backend that knows what opens it again (:attr:`.Backend.spec`).

    Args:
        dtype, quantisation, revision, trust_remote_code, chat_template_kwargs: of the model
            (:class:`palate.mllm.lm.options.ModelOptions`).
        device, adapter, longest: of :func:`palate.mllm.lm.loading.open_model`.
        batch_size, attempts, temperature, seed, no_repeat_ngram_size: of :class:`.LocalBackend`.
    """
    if model is None:
        raise PalateError("the backend 'local' needs a model", "Give --model: a hub name or a folder.")
    options = ModelOptions(
        name=model,
        dtype=dtype,
        quantisation=quantisation,
        revision=revision,
        trust_remote_code=trust_remote_code,
        chat_template_kwargs=chat_template_kwargs or {},
    )
    backend = LocalBackend(
        open_model(options, device=device, adapter=adapter, longest=longest),
        batch_size=batch_size,
        attempts=attempts,
        temperature=temperature,
        seed=seed,
        no_repeat_ngram_size=no_repeat_ngram_size,
    )
    backend.spec = LocalModelSpec.of(backend, options, adapter).model_dump()
    return backend


class LocalModelSpec(Config):
    """What opens a local backend again; it decides no key, since a folder may move.

    Whether code of the model's own may run is no part of it: each machine decides that for itself.

    Attributes:
        kind: an embedded model, a folder of this machine, or a repository of the hub. One never stands for another.
        model: its name; of a folder, the whole path.
        dtype: of its weights, as they were in memory.
        revision: commit of the hub, if it is known, else the revision that was requested.
        adapter: whole path of the adapter's folder.
        longest, temperature, seed, no_repeat_ngram_size, chat_template_kwargs: as the backend had them.
    """

    kind: Literal["embedded", "folder", "hub"]
    model: str
    dtype: str
    quantisation: str | None = None
    revision: str | None = None
    adapter: str | None = None
    longest: int | None = None
    temperature: float = 0.0
    seed: int = 0
    no_repeat_ngram_size: int = 0
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)

    @classmethod
    def of(cls, backend: LocalBackend, options: ModelOptions, adapter: Path | None = None) -> Self:
        """Of an open backend, and the options and the adapter that its model was opened with."""
        model = backend.model
        core, folder = model.core, Path(model.name).expanduser()
        kind: Any = "embedded" if model.name in EMBEDDED_MODELS else "folder" if folder.is_dir() else "hub"
        return cls(
            kind=kind,
            model=recorded(folder) if kind == "folder" else model.name,
            dtype=str(core.dtype).removeprefix("torch."),
            quantisation=options.quantisation,
            revision=(getattr(core.config, "_commit_hash", None) or options.revision) if kind == "hub" else None,
            adapter=None if adapter is None else recorded(adapter.expanduser()),
            longest=model.longest,
            temperature=backend.temperature,
            seed=backend.seed,
            no_repeat_ngram_size=backend.no_repeat_ngram_size,
            chat_template_kwargs=model.chat_template.kwargs,
        )

    def open(self, device: str) -> LocalBackend:
        """The backend; its user compares its identity with the one it had.

        Raises:
            PalateError: the model is not there any more; another place is not tried.
        """
        for what, place in (("model", self.model if self.kind == "folder" else None), ("adapter", self.adapter)):
            if place is not None and not _is_there(place):
                raise PalateError(
                    f"the {what} that wrote the preferences is not at {place} any more", f"Put it back. Or: {_REMEDY}"
                )
        embedded = self.model in EMBEDDED_MODELS
        if (self.kind == "embedded") != embedded or (self.kind == "hub" and Path(self.model).exists()):
            raise PalateError(f"'{self.model}' is not the {self.kind} model that wrote the preferences", _REMEDY)
        return open_local(
            self.model,
            device=device,
            adapter=None if self.adapter is None else follow(self.adapter),
            **self.model_dump(exclude={"kind", "model", "adapter"}),
        )


def _is_there(place: str) -> bool:
    found = find(place) if is_url(place) or Path(place).is_absolute() else None
    return found is not None and found.is_dir()
