"""Written preferences of histories: looked up by the content of the history, and written where they are missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Reply
from palate.mllm.backends.local_spec import LocalModelSpec
from palate.mllm.lm.embedded import EMBEDDED_MODELS
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.summaries.items import ItemSummaries
from palate.mllm.summaries.steps import SummaryStep, SummarySteps, UserOptions, as_text
from palate.mllm.summaries.store import (
    FACTS,
    FORMAT,
    ROWS,
    Row,
    SummaryStore,
    as_line,
    read_facts,
    rows_by_key,
    store_folder,
)
from palate.mllm.summaries.users import row_of
from palate.mllm.summaries.work import missing_steps, write_steps
from palate.storage.files import atomic_file, write_json
from palate.storage.remote import recorded

Opener = Callable[[], Backend]
_NOT_SAVED = ("prompt_tokens", "new_tokens", "seconds", "faults")


class Preferences:
    """Preferences that were written in one way; :meth:`open` and :meth:`load` make it.

    A history is known by its content (titles and texts of its items, in order), not by its user:
    who has a history equal to another user's gets the same preference, and a history that grew does not get the old
    one.

    Args:
        items: texts of items in the prompts when the preferences were written, item summaries included.
        templates: the wording of those prompts.
        made: how they were made (``made`` of ``summaries.json``).
        rows: of the store, by key.
        store: folder of a dataset's store, which may have grown since and where new ones are written.
        spec: opens the backend that wrote them, if it was stored.

    Attributes:
        items: for the prompts that show these preferences.
        most_written: of the texts that it wrote itself and that are in no store, the newest ones are remembered, at
            most this many: a service answers strangers for as long as it runs.

    Raises:
        PalateError: ``made`` is damaged, or ``templates`` are not those of ``made``.
    """

    def __init__(
        self,
        items: Items,
        templates: Templates,
        made: dict[str, Any],
        rows: Mapping[str, Row],
        store: Path | None,
        spec: Any = None,
    ) -> None:
        if made.get("kind") != "users" or not isinstance(made.get("backend"), dict):
            raise PalateError("these summaries are not of users", "Give a folder of summaries/users.")
        known = {name: made[name] for name in UserOptions.model_fields if name in made}
        self.options = UserOptions.parse(known, where=FACTS)
        self.items, self.templates, self.made, self.store = items, templates, made, store
        self.spec = None if spec is None else LocalModelSpec.parse(spec, where=f"{FACTS} [origin]")
        self.rows: dict[str, Row] = {}
        self._texts: dict[str, str] = {}
        self._add(rows)
        self.backend: Opener | None = None
        prints = {name: templates.fingerprint(name) for name in self.options.templates}
        for name, fingerprint in prints.items():
            if (made.get("prompts") or {}).get(name) != fingerprint:
                raise PalateError(
                    f"the preferences were written with another prompt '{name}'",
                    "Give the --prompts that they were written with, or write them again under another --name.",
                )
        self._summary_steps = SummarySteps(SummaryPrompts(items, templates), self.options, made["backend"])
        self._used: dict[str, SummaryStep] = {}
        self.most_written = 10_000
        self._written: dict[str, None] = {}  # by this process and into no store, the oldest first

    @classmethod
    def open(
        cls, dataset: Path | str, name: str, catalogue: Catalogue, templates: Templates | None = None
    ) -> Preferences:
        """The store ``DATASET/summaries/users/NAME``, with the item summaries that it was written with.

        Raises:
            PalateError: there is none, or it is damaged, or was written with other prompts.
        """
        folder = store_folder(dataset, "users", name)
        facts = read_facts(folder)
        made = facts["made"]
        summaries = made.get("item_summaries")
        written = ItemSummaries.load(store_folder(dataset, "items", summaries)) if summaries else None
        fields = made.get("fields")
        items = Items.of(catalogue, written, fields if isinstance(fields, list) else None)
        return cls(items, templates or Templates.load(), made, rows_by_key(folder), folder, facts.get("origin"))

    @classmethod
    def load(cls, folder: Path | str, items: Items, templates: Templates | None = None) -> Preferences:
        """Read what :meth:`save` wrote.

        Args:
            items: of the run.
            templates: of the run; by default those in ``folder/prompts``.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        if templates is None:
            own = folder / "prompts"
            templates = Templates.load(own if own.is_dir() else None)
        store = Path(facts["store"]) if isinstance(facts.get("store"), str) else None
        return cls(items, templates, facts["made"], rows_by_key(folder), store, facts.get("origin"))

    def set_data_folder(self, folder: Path) -> None:
        """Look further preferences up in this dataset's store of the same name, if it has one made in the same way.

        A dataset that was moved takes its summaries along.
        """
        if self.store is not None:
            moved = store_folder(folder, "users", self.store.name)
            if (moved / FACTS).is_file() and read_facts(moved)["made"] == self.made:
                self.store = moved

    def allow(self, backend: Opener) -> None:
        """Let preferences that are missing be written.

        Args:
            backend: opens the backend, once and only when something is missing; it must be the one that wrote the rest.
        """
        self.backend = backend

    def of(self, histories: Sequence[Sequence[int]]) -> list[str]:
        """The preference of each history of item indices, oldest first; empty for an empty history.

        Raises:
            PalateError: some are missing and may not be written, or could not be.
        """
        chains = [self._summary_steps.of(history) for history in histories]
        steps = missing_steps(chains, self._texts)
        if steps:
            self.look_up()
            steps = missing_steps(chains, self._texts)
        if steps:
            lacking = [chain for chain in chains if chain and chain[-1].key not in self._texts]
            if self.backend is None:
                raise self._refusal(len(lacking), len(chains))
            self._write(steps)
        for chain in chains:
            self._used.update((step.key, step) for step in chain)
        texts = [self._texts[chain[-1].key] if chain else "" for chain in chains]
        self._forget()
        return texts

    def _forget(self) -> None:
        """Drop what was written first, until no more than ``most_written`` are left."""
        while len(self._written) > self.most_written:
            key = next(iter(self._written))
            for known in (self._written, self._used, self._texts, self.rows):
                known.pop(key, None)
        self._summary_steps.forget(10 * self.most_written)

    def stored(self, history: Sequence[int]) -> list[tuple[tuple[int, ...], str | None]]:
        """The steps to the preference of a history, as far as they are written: the items that each one read, and its
        text, or None. No model is asked."""
        return [(step.items, self._texts.get(step.key)) for step in self._summary_steps.of(history)]

    def look_up(self) -> None:
        """Read what was added to the store since, if there is one still."""
        if self.store is not None and (self.store / FACTS).is_file():
            self._reread()

    def save(self, folder: Path) -> None:
        """Write the preferences that were used, and the steps to them, into an existing folder."""
        saved = [row for key in self._used if (row := self.rows.get(key)) is not None]
        with atomic_file(Path(folder) / ROWS) as part, part.open("wb") as file:
            for row in saved:
                file.write(as_line({name: value for name, value in row.items() if name not in _NOT_SAVED}))
        facts: dict[str, Any] = {"format": FORMAT, "made": self.made, "summaries": len(saved)}
        if self.store is not None:
            facts["store"] = recorded(self.store)
        if self.spec is not None:
            facts["origin"] = self.spec.model_dump()
        write_json(Path(folder) / FACTS, facts)

    def _add(self, rows: Mapping[str, Row]) -> None:
        self.rows.update(rows)
        self._texts.update((key, row["text"]) for key, row in rows.items())

    def _reread(self) -> None:
        """Read rows that others have written into the store since, if it is still made as these are."""
        assert self.store is not None
        if read_facts(self.store)["made"] == self.made:
            self._add(rows_by_key(self.store))

    def _refusal(self, lacking: int, total: int) -> PalateError:
        options = self.options
        words = [*self._writer_options(), "--strategy", options.strategy]
        words += ["--block", options.block, "--max-items", options.max_items]
        words += ["--max-new-tokens", options.max_new_tokens]
        words += ["--name", self.store.name] if self.store is not None else []
        words += ["--fields", ",".join(options.fields)] if options.fields is not None else []
        words += ["--item-summaries", self.made["item_summaries"]] if self.made.get("item_summaries") else []
        command = f"palate summarise users DATASET {shlex.join(map(str, words))}"
        return PalateError(
            f"{lacking} of {total} histories have no written preference",
            f"Write them: {command} --as-of train,valid,test; for `palate recommend`, which reads all that a user did: "
            "--as-of now.",
        )

    def _writer_options(self) -> list[Any]:
        """The options of the command that name the model."""
        made, spec = self.made["backend"], self.spec
        model = made["model"] if spec is None else spec.model
        kind = "embedded" if made.get("backend") == "local" and model in EMBEDDED_MODELS else made.get("backend")
        words = ["--backend", kind, "--model", model]
        options = {
            "dtype": made.get("dtype"),
            "quantisation": made.get("quantisation"),
            "revision": None if spec is None else spec.revision,
            "temperature": made.get("temperature") or None,
            "seed": made.get("seed"),
            "no-repeat-ngram-size": made.get("no_repeat_ngram_size"),
            "chat-template-kwargs": json.dumps(kwargs) if (kwargs := made.get("chat_template_kwargs")) else None,
        }
        return words + [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]

    def _write(self, steps: list[SummaryStep]) -> None:
        assert self.backend is not None
        backend = self.backend()
        self.backend = lambda: backend
        if backend.identity != self.made["backend"]:
            raise PalateError(
                f"the preferences were written by {as_text(self.made['backend'])}, not by {as_text(backend.identity)}",
                "Use the same model, or write all of them again under another --name.",
            )
        if self.store is not None and (self.store / FACTS).is_file():
            with SummaryStore.open(self.store, self.made) as store:
                failed = self._have(steps, backend, store)
        else:
            failed = self._have(steps, backend, None)
        if failed:
            reason = next(iter(failed.values()))
            raise PalateError(f"{len(failed)} of {len(steps)} steps of preferences could not be written: {reason}")

    def _have(self, steps: list[SummaryStep], backend: Backend, store: SummaryStore | None) -> dict[str, str]:
        def keep(step: SummaryStep, text: str | None, reply: Reply) -> None:
            if store is not None:
                store.spent(reply, text is not None)
            if text is not None:
                row = row_of(step, self.items, text, reply)
                self._add({step.key: row})
                if store is not None:
                    store.add(row)
                else:
                    self._written[step.key] = None

        outcome = write_steps(
            steps,
            self._texts,
            self._summary_steps.ask,
            keep,
            backend,
            max_new_tokens=self.options.max_new_tokens,
            description="preferences",
        )
        return outcome.failed
