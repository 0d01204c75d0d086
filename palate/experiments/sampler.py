"""Which settings a search tries: all of them where they are few enough, else what an optimiser proposes."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.experiments.recipe import Space
from palate.experiments.search_space import Choices
from palate.storage.files import digest, read_json, write_json

# Of a search that learns, the share of trials that are drawn at random first.
_STARTUP = 1 / 3
_LEAST_RANDOM = 3
_ATTEMPTS = 50


@dataclass(frozen=True)
class Trial:
    """One trial's outcome.

    Attributes:
        value: the best validation, or None where these settings were refused or diverged.
        key: hash of everything that decided it; a trial with another key is of another search.
    """

    number: int
    params: dict[str, Any]
    value: float | None
    metric: str | None
    seconds: float
    error: str | None
    key: str


class SettingsSearch:
    """Proposals for one arm. What it proposes depends on the seed and on earlier trials, never on interruptions.

    Args:
        trials: at most so many.
        seed: of the proposals.

    >>> SettingsSearch({"k": Choices(choices=[1, 2]), "p": Choices(choices=[0.5])}, 12, 0).grid
    [{'k': 1, 'p': 0.5}, {'k': 2, 'p': 0.5}]
    """

    def __init__(self, space: Mapping[str, Space], trials: int, seed: int) -> None:
        self.space, self.trials, self.seed = dict(space), trials, seed
        self.grid = _grid(self.space, trials)
        if self.grid is None:
            _optuna()

    @property
    def size(self) -> int:
        return self.trials if self.grid is None else len(self.grid)

    def propose(self, done: Sequence[Trial]) -> dict[str, Any] | None:
        """Settings for trial number ``len(done)``, or None where nothing new is left to try."""
        if self.grid is not None:
            return self.grid[len(done)]
        optuna = _optuna()
        known = [trial.params for trial in done]
        for attempt in range(_ATTEMPTS):
            found = self._ask(optuna, done, attempt)
            if found not in known:
                return found
        return None

    def _ask(self, optuna: Any, done: Sequence[Trial], attempt: int) -> dict[str, Any]:
        # A sampler of its own for each trial: what it draws does not depend on where a search was interrupted.
        seed = int(digest(f"{self.seed}", f"{len(done)}", f"{attempt}"), 16) % 2**32
        startup = max(_LEAST_RANDOM, round(self.trials * _STARTUP))
        learns = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        # Asked in vain a few times, it has made up its mind: the rest is left to chance.
        sampler = learns if attempt < _ATTEMPTS // 2 else optuna.samplers.RandomSampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        spaces = {name: _distribution(optuna, space) for name, space in self.space.items()}
        states = optuna.trial.TrialState
        for trial in done:
            state = states.FAIL if trial.value is None else states.COMPLETE
            study.add_trial(
                optuna.trial.create_trial(state=state, params=trial.params, distributions=spaces, value=trial.value)
            )
        asked = study.ask(spaces).params
        return {name: _short(value, self.space[name]) for name, value in asked.items()}


def _short(value: Any, space: Space) -> Any:
    """Six digits are enough to try and easier to quote."""
    if not isinstance(value, float) or isinstance(space, Choices):
        return value
    return min(max(float(f"{value:.6g}"), float(space.low)), float(space.high))


def _grid(space: Mapping[str, Space], trials: int) -> list[dict[str, Any]] | None:
    """All combinations, the last setting varying fastest; None where there are too many or endlessly many."""
    axes = [values_of(one) for one in space.values()]
    listed = [axis for axis in axes if axis is not None]
    if len(listed) < len(axes) or math.prod(map(len, listed)) > trials:
        return None
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*listed)]


def values_of(space: Space) -> list[Any] | None:
    """All values of a space, or None where it is a continuum."""
    if isinstance(space, Choices):
        return list(space.choices)
    step = space.step or (1 if space.whole and not space.log else None)
    if step is None:
        return None
    count = math.floor((space.high - space.low) / step + 1e-9) + 1
    return [
        space.low + number * step if space.whole else round(space.low + number * step, 12) for number in range(count)
    ]


def _distribution(optuna: Any, space: Space) -> Any:
    if isinstance(space, Choices):
        return optuna.distributions.CategoricalDistribution(space.choices)
    if space.whole:
        return optuna.distributions.IntDistribution(space.low, space.high, step=space.step or 1, log=space.log)
    return optuna.distributions.FloatDistribution(space.low, space.high, step=space.step, log=space.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise PalateError(
            "a search that is larger than its trials needs optuna",
            "Install it: pip install 'palate[tune]'; or search fewer combinations of listed values.",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The highest value; of equals the first."""
    return max((t for t in trials if t.value is not None), key=lambda t: (t.value, -t.number), default=None)


def save_trial(folder: Path, trial: Trial) -> None:
    write_json(folder / f"{trial.number:04d}.json", asdict(trial))


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
