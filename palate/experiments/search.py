"""The search for settings: all of them where they are few, else what an optimiser proposes; a file for every trial."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.experiments.space import Choices, Space, grid_of
from palate.storage.files import digest, read_json, write_json

# Of a search that learns, the share of trials that are drawn at random first.
_STARTUP = 1 / 3
_LEAST_RANDOM = 3
_ATTEMPTS = 50
_STATES = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
# Of a trial's fields, those that its file has only where they hold something.
_OPTIONAL = ("epoch", "pruned", "curve")


@dataclass(frozen=True)
class Trial:
    """One trial's outcome.

    Attributes:
        value: the best validation, or None where the trial was stopped early, its settings refused, or it diverged.
        seconds: that it took.
        error: why it failed.
        key: hash of everything that decided it; a trial with another key is of another search.
        epoch: of the validation that counts (2.5: halfway through the third), or the last of a trial stopped early.
        pruned: whether it was stopped early.
        curve: epoch -> best validation so far (None: no number yet), where the search learns from curves.
    """

    number: int
    params: dict[str, Any]
    value: float | None
    metric: str | None
    seconds: float
    error: str | None
    key: str
    epoch: float | None = None
    pruned: bool = False
    curve: dict[str, float | None] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``complete``, ``pruned`` or ``failed``."""
        return "pruned" if self.pruned else "failed" if self.value is None else "complete"


class SettingsSearch:
    """Proposals for one arm. What it proposes depends on the seed and on earlier trials, never on interruptions.

    Args:
        trials: at most N.
        seed: of the proposals.
        random: whether proposals are drawn at random, rather than from what earlier trials taught.
        startup: trials that are drawn at random first; by default a third of them, at least 3.
    """

    def __init__(
        self,
        space: Mapping[str, Space],
        trials: int,
        seed: int,
        *,
        random: bool = False,
        startup: int | None = None,
    ) -> None:
        self.space, self.trials, self.seed, self.random = dict(space), trials, seed, random
        self.startup = max(_LEAST_RANDOM, round(trials * _STARTUP)) if startup is None else startup
        self.grid = grid_of(self.space, trials)
        if self.grid is None:
            import_optuna("a search that is larger than its trials")

    @property
    def size(self) -> int:
        return self.trials if self.grid is None else len(self.grid)

    def propose(self, done: Sequence[Trial]) -> dict[str, Any] | None:
        """Settings for trial number ``len(done)``, or None where nothing new is left to try."""
        if self.grid is not None:
            return self.grid[len(done)]
        known = [trial.params for trial in done]
        for attempt in range(_ATTEMPTS):
            proposed = self._draw(done, attempt)
            if proposed not in known:
                return proposed
        return None

    def _draw(self, done: Sequence[Trial], attempt: int) -> dict[str, Any]:
        samplers = import_optuna().samplers
        # A sampler of its own for each trial: what it draws does not depend on where a search was interrupted.
        seed = int(digest(f"{self.seed}", f"{len(done)}", f"{attempt}"), 16) % 2**32
        # After a few proposals that were tried before, the optimiser is stuck: the rest is left to chance.
        learns = not self.random and attempt < _ATTEMPTS // 2
        sampler = (
            samplers.TPESampler(seed=seed, n_startup_trials=self.startup)
            if learns
            else samplers.RandomSampler(seed=seed)
        )
        optuna = import_optuna()
        study = optuna.create_study(direction="maximize", sampler=sampler)
        spaces = self.distributions()
        for trial in done:
            curve = {int(epoch): -math.inf if value is None else value for epoch, value in trial.curve.items()}
            past = optuna.trial.create_trial(
                state=optuna.trial.TrialState[_STATES[trial.state]],
                params=trial.params,
                distributions=spaces,
                value=trial.value,
                intermediate_values=curve,
            )
            study.add_trial(past)
        return {name: _short(value, self.space[name]) for name, value in study.ask(spaces).params.items()}

    def distributions(self) -> dict[str, Any]:
        """The spaces as optuna's."""
        return {name: _distribution(space) for name, space in self.space.items()}


def _short(value: Any, space: Space) -> Any:
    """Six digits are enough to try and easier to quote."""
    if not isinstance(value, float) or isinstance(space, Choices):
        return value
    return min(max(float(f"{value:.6g}"), float(space.low)), float(space.high))


def _distribution(space: Space) -> Any:
    distributions = import_optuna().distributions
    if isinstance(space, Choices):
        return distributions.CategoricalDistribution(space.choices)
    if space.whole:
        return distributions.IntDistribution(space.low, space.high, step=space.step or 1, log=space.log)
    return distributions.FloatDistribution(space.low, space.high, step=space.step, log=space.log)


def import_optuna(purpose: str = "a search") -> Any:
    """The optional package optuna.

    Raises:
        PalateError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise PalateError(
            f"{purpose} needs optuna",
            "Install it: pip install 'palate[tune]'; or search fewer combinations of listed values.",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Pruning:
    """Decides by the curves of all trials which one is not worth its further epochs.

    Args:
        pruner: of optuna.
    """

    def __init__(self, search: SettingsSearch, pruner: Any) -> None:
        self.spaces, self.states = search.distributions(), import_optuna().trial.TrialState
        self.study = import_optuna().create_study(study_name="palate", direction="maximize", pruner=pruner)
        self.trial: Any = None
        self.finished = 0

    def begin(self, params: dict[str, Any], done: Sequence[Trial]) -> None:
        """A trial begins; ``done`` are all before it, of which those of earlier processes are gone through again."""
        for past in done[self.finished :]:
            if self.trial is None:
                self._ask(past.params)
                for epoch, value in past.curve.items():
                    self.prune(int(epoch), -math.inf if value is None else value)
            if past.value is None:
                self.study.tell(self.trial, state=self.states[_STATES[past.state]])
            else:
                self.study.tell(self.trial, past.value)
            self.trial = None
        self.finished = len(done)
        self._ask(params)

    def _ask(self, params: dict[str, Any]) -> None:
        self.study.enqueue_trial(params)
        self.trial = self.study.ask(self.spaces)

    def prune(self, epoch: int, value: float) -> bool:
        """Whether the trial that has begun ends here, with ``value`` as its best so far."""
        self.trial.report(value, epoch)
        return bool(self.trial.should_prune())


class TrialLog:
    """The trials of one search, in a folder: what is to be tried next, and what came of it.

    ::

        while batch := log.ask():
            log.done += [log.find(number, key) or ... for number, params in batch]

    Attributes:
        done: outcomes so far, in the order of their numbers.
    """

    def __init__(self, folder: Path, search: SettingsSearch) -> None:
        self.folder, self.search = folder, search
        self.done: list[Trial] = []
        self._stored = load_trials(folder)

    def ask(self) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and settings of the trials that come next, which do not wait for each other; empty at the end."""
        stored, number = self._stored, len(self.done)
        if number >= self.search.size:
            return []
        if self.search.grid is not None:
            known = [trial.params for trial in stored.values()]
            others = iter([params for params in self.search.grid if params not in known])
            planned = ((n, stored[n].params if n in stored else next(others, None)) for n in range(self.search.size))
            return [(n, params) for n, params in planned if params is not None][number:]
        params = stored[number].params if number in stored else self.search.propose(self.done)
        return [] if params is None else [(number, params)]

    def find(self, number: int, key: str) -> Trial | None:
        """The outcome that is stored under this number; None where there is none.

        Raises:
            PalateError: it has another key.
        """
        trial = self._stored.get(number)
        if trial is not None and trial.key != key:
            raise PalateError(
                f"{self.folder} holds trials of another search, with other options or of another base",
                "Remove it, and it is made again; or choose another --out.",
            )
        return trial

    def save(self, trial: Trial) -> Trial:
        """Write a new outcome to its file."""
        facts = {name: value for name, value in asdict(trial).items() if value or name not in _OPTIONAL}
        write_json(self.folder / f"{trial.number:04d}.json", facts)
        return trial


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The highest value; of equals the first."""
    return max((t for t in trials if t.value is not None), key=lambda t: (t.value, -t.number), default=None)


def load_trials(folder: Path) -> dict[int, Trial]:
    """The stored trials by number.

    Raises:
        PalateError: a damaged file.
    """
    found: dict[int, Trial] = {}
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9].json")):
        try:
            trial = Trial(**read_json(path))
        except TypeError:
            raise PalateError(f"{path} is damaged", "Remove it: the trial is made again.") from None
        found[trial.number] = trial
    return found


def key_of(*parts: Any) -> str:
    """Hash of plain values."""
    return digest(json.dumps(parts, sort_keys=True))
