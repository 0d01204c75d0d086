"""Where a local model came from, so that the very same one can be opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from palate.config import Config
from palate.errors import PalateError
from palate.mllm.backends.base import Backend
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.chat_template import TemplateKwargs
from palate.mllm.lm.embedded import NAMES
from palate.mllm.lm.loading import open_model

_REMEDY = "Write the preferences with `palate summarise users`."


class LocalModelSpec(Config):
    """What opens a backend again; it decides no key, since a folder may move.

    Whether code of the model's own may run is no part of it: that is asked for anew on every machine.

    Attributes:
        kind: an embedded model, a folder of this machine, or a repository of the hub. One never stands for another.
        model: its name; of a folder, the whole path.
        dtype: of its weights, as they were in memory.
        revision: commit of the hub, if it is known, else what was asked for.
        adapter: whole path of the adapter's folder.
        longest, temperature, seed, chat_template_kwargs: as the backend had them.
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
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: ChatModel,
        *,
        quantisation: str | None = None,
        revision: str | None = None,
        adapter: Path | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Self:
        """Of an open model and the options it was opened with."""
        core, folder = model.core, Path(model.name).expanduser()
        kind: Any = "embedded" if model.name in NAMES else "folder" if folder.is_dir() else "hub"
        return cls(
            kind=kind,
            model=str(folder.resolve()) if kind == "folder" else model.name,
            dtype=str(core.dtype).removeprefix("torch."),
            quantisation=quantisation,
            revision=(getattr(core.config, "_commit_hash", None) or revision) if kind == "hub" else None,
            adapter=None if adapter is None else str(adapter.expanduser().resolve()),
            longest=model.longest,
            temperature=temperature,
            seed=seed,
            chat_template_kwargs=model.dialect.kwargs,
        )

    def open(self, device: str) -> Backend:
        """The backend; whoever uses it compares its identity with the one it had.

        Raises:
            PalateError: the model is not there any more; another place is not tried.
        """
        from palate.mllm.backends.local import LocalBackend

        for what, place in (("model", self.model if self.kind == "folder" else None), ("adapter", self.adapter)):
            if place is not None and not (Path(place).is_absolute() and Path(place).is_dir()):
                raise PalateError(
                    f"the {what} that wrote the preferences is not at {place} any more", f"Put it back. Or: {_REMEDY}"
                )
        if (self.kind == "embedded") != (self.model in NAMES) or (self.kind == "hub" and Path(self.model).exists()):
            raise PalateError(f"'{self.model}' is not the {self.kind} model that wrote the preferences", _REMEDY)
        model = open_model(
            self.model,
            device=device,
            dtype=self.dtype,
            quantisation=self.quantisation,
            revision=self.revision,
            trust_remote_code=False,
            adapter=None if self.adapter is None else Path(self.adapter),
            longest=self.longest,
            chat_template_kwargs=self.chat_template_kwargs,
        )
        return LocalBackend(model, temperature=self.temperature, seed=self.seed)
