"""The rules of a running service: read again when their files change; broken ones leave the last good ones in force."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from palate.bundle.items import BundleItems
from palate.errors import PalateError
from palate.serve.business.model_rules import ModelRules, compile_rules
from palate.serve.business.rules_file import RuleSet, lists_of, read_lists, read_rules_file
from palate.serve.telemetry import Telemetry

# What tells a file from a changed one: its time, size and number; None where there is none.
FileState = tuple[int, int, int] | None


class Ruled(Protocol):
    """A model that rules apply to."""

    items: BundleItems
    business: ModelRules | None


class BusinessRules:
    """Keeps the rules of all models up to date with a file.

    Args:
        path: of the file; the lists that it names are watched too, also those of a file that was not taken over.
    """

    def __init__(self, path: Path, telemetry: Telemetry) -> None:
        self.path, self.telemetry = path, telemetry
        self._rules: RuleSet | None = None
        self._lists: list[Path] = []
        self._read: list[FileState] = []  # what the files looked like when they were read
        self._seen: list[FileState] = []  # and at the last look
        self._refused = False  # whether what was read last was not taken over

    def start(self, models: Mapping[str, Ruled]) -> None:
        """Read the rules for the first time.

        Raises:
            PalateError: they are broken.
        """
        self._rules = self._read_files()
        self.apply(models)
        self._note(models)

    def apply(self, models: Mapping[str, Ruled]) -> None:
        """Put the rules that were read last on models, on all of them or on none.

        Raises:
            PalateError: they do not fit the catalogue of a model.
        """
        if self._rules is None:
            return
        rules = self._rules
        made = {name: compile_rules(rules, model.items) for name, model in models.items()}
        for name, model in models.items():
            model.business = made[name]
            self.telemetry.rules_items.labels(name).set(made[name].left)
            self.telemetry.rules_unmatched.labels(name).set(len(made[name].warnings))

    def refresh(self, models: Mapping[str, Ruled]) -> bool:
        """Read the files again if they have changed, and stayed the same since the last look: one that is still being
        written is not read. Returns whether there are new rules; broken ones are counted and logged once."""
        now = [state_of(path) for path in (self.path, *self._lists)]
        settled, self._seen = now == self._seen, now
        if now == self._read or not settled:
            return False
        self._read = now
        before, self._refused = self._rules, True
        try:
            self._rules = self._read_files()
            if before is not None and self._rules.version == before.version:
                self._refused = False
                self.telemetry.rules_broken.set(0)
                return False
            self.apply(models)
        except PalateError as error:
            self._rules = before
            self.telemetry.rules_reloads.labels("failed").inc()
            self.telemetry.rules_broken.set(1)
            self.telemetry.log.error("rules not taken over; the last good ones go on", error=str(error))
            return False
        self._refused = False
        self._note(models)
        return True

    def try_again(self) -> None:
        """Models have changed: rules that were not taken over are read again at the next look, as they may fit now."""
        if self._refused:
            self._read = []

    def _read_files(self) -> RuleSet:
        """The rules as they are now. What changes while they are read is read again."""
        first = state_of(self.path)
        text, rules = read_rules_file(self.path)
        self._lists = lists_of(self.path, rules)
        self._read = [first, *map(state_of, self._lists)]
        return read_lists(self.path, text, rules)

    def _note(self, models: Mapping[str, Ruled]) -> None:
        telemetry = self.telemetry
        telemetry.rules_reloads.labels("changed").inc()
        telemetry.rules_broken.set(0)
        telemetry.rules_seconds.set(time.time())
        for name, model in models.items():
            rules = model.business
            if rules is None:
                continue
            telemetry.log.info("rules", model=name, version=rules.version, items_left=rules.left)
            for warning in rules.warnings[:10]:
                telemetry.log.warning("rule without effect", model=name, rule=warning)


def state_of(path: Path) -> FileState:
    """What a file looks like from outside."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
