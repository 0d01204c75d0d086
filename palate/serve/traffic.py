"""Traffic split between models: which one answers a user, by a stable hash of the user's id."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping

from palate.errors import PalateError, suggest

_REMEDY = "Write MODEL=SHARE,MODEL=SHARE, such as best=0.9,new=0.1."


class Traffic:
    """Sends each user to one of several models, always to the same.

    Weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each
    model draws a number from a hash of the experiment, its own name and the user's id, and the largest of
    ``-share / log(number)`` wins. Where the share of one model changes, only users move to it or away from it.

    Args:
        shares: of each model; they need not sum to 1.
        experiment: changes the draw, so that two experiments split the same users independently.

    >>> traffic = Traffic({"best": 0.9, "new": 0.1}, "autumn")
    >>> [traffic.model_of(user) for user in ("anna", "ben", "clara")] == [traffic.model_of("anna")] * 3
    True
    """

    def __init__(self, shares: Mapping[str, float], experiment: str = "traffic") -> None:
        self.shares, self.experiment = dict(shares), experiment

    def model_of(self, user: str) -> str:
        """The name of the model that answers a user."""
        return max(self.shares, key=lambda name: self._worth(name, user))

    def _worth(self, name: str, user: str) -> float:
        # Lengths keep the parts apart, whatever they hold.
        text = f"{len(self.experiment)}:{len(name)}:{self.experiment}{name}{user}"
        drawn = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        return -self.shares[name] / math.log((drawn + 0.5) / 2**64)


def parse_traffic(text: str, models: Collection[str], experiment: str = "traffic") -> Traffic:
    """Shares as the command line has them: ``best=0.9,new=0.1``.

    Raises:
        PalateError: a model that is not served or is named twice, or shares that are none.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (one.strip() for one in part.rpartition("="))
        if name not in models:
            raise PalateError(f"--traffic {text}: there is no model '{name or part}'", suggest(name or part, models))
        if name in shares:
            raise PalateError(f"--traffic {text}: '{name}' is named twice", _REMEDY)
        try:
            share = float(number)
        except ValueError:
            raise PalateError(f"--traffic {text}: '{number}' is not a number", _REMEDY) from None
        if not (math.isfinite(share) and share >= 0):
            raise PalateError(f"--traffic {text}: a share of {number} makes no sense", _REMEDY)
        shares[name] = share
    shares = {name: share for name, share in shares.items() if share}
    if not shares:
        raise PalateError(f"--traffic {text}: all shares are 0", _REMEDY)
    return Traffic(shares, experiment)
