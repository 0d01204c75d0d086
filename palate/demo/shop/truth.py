"""What the generator knows and no model learns from: how every item looks, and what every person likes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from palate.demo.shop.choice import Likings, Shop, steady, utility
from palate.demo.shop.style import DEMO
from palate.errors import PalateError
from palate.storage.files import atomic_file

FILE = "truth.npz"
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """The generator's own knowledge, in the order of the dataset it belongs to.

    Attributes:
        look: float32 ``[num_items + 1, factors]``, row 0 is padding; the factors are ``looks.FACTORS``.
        taste: float32 ``[interactions, factors]``: the user's taste at the moment of each interaction.
        popularity: float32 ``[num_items + 1]``: how liked an item is by everybody.
        natural: float32 ``[num_items + 1]``: 1 for natural materials, -1 for others.
        category, brand, line: int64 ``[num_items + 1]``, indices; 0 for padding as well. A line is one product in
            several colours.
        released: int64 ``[num_items + 1]``, Unix milliseconds; 0 for "there from the beginning".
        times: int64 ``[interactions]``, Unix milliseconds.
        previous: int64 ``[interactions]``, the item bought just before in the same visit; 0 where a visit begins.
        category_liking: float32 ``[users, categories]``.
        brand_liking: float32 ``[users, brands]``.
        natural_liking: float32 ``[users]``.
        strength: how much the look weighs in a choice; kept in the file only where it is not the demo's.
    """

    look: Floats
    taste: Floats
    popularity: Floats
    natural: Floats
    category: Ints
    brand: Ints
    line: Ints
    released: Ints
    times: Ints
    previous: Ints
    category_liking: Floats
    brand_liking: Floats
    natural_liking: Floats
    strength: float = DEMO.strength

    def affinity(self, rows: npt.ArrayLike) -> Floats:
        """float32 ``[rows, num_items + 1]``: how much the taste behind these interactions likes every item's look.

        Nothing else enters: no popularity, no category. Padding is ``-inf``.
        """
        scores: Floats = (self.strength * self.taste[np.asarray(rows)] @ self.look.T).astype(np.float32)
        scores[:, 0] = -np.inf
        return scores

    def utility(self, rows: npt.ArrayLike, users: npt.ArrayLike) -> Floats:
        """float32 ``[rows, num_items + 1]``: everything that the user at each row weighed, but chance.

        The probability of an item is the softmax of this over what the user had not taken. Padding and items that were
        not on sale yet are ``-inf``.
        """
        rows, users = np.asarray(rows), np.asarray(users)
        shop = Shop(
            looks=self.look[1:].astype(np.float64),
            category=self.category[1:],
            brand=self.brand[1:],
            line=self.line[1:],
            natural=self.natural[1:].astype(np.float64),
            popularity=self.popularity[1:].astype(np.float64),
            released=self.released[1:],
        )
        likings = Likings(
            self.category_liking[users].astype(np.float64),
            self.brand_liking[users].astype(np.float64),
            self.natural_liking[users].astype(np.float64),
        )
        taste = self.taste[rows].astype(np.float64)
        worth = utility(shop, steady(shop, likings), taste, self.times[rows], self.previous[rows] - 1, self.strength)
        scores: Floats = np.full((len(rows), len(self.look)), -np.inf, np.float32)
        scores[:, 1:] = worth
        return scores

    def save(self, folder: Path) -> None:
        with atomic_file(Path(folder) / FILE) as part, part.open("wb") as file:
            arrays = dict(vars(self))
            if self.strength == DEMO.strength:
                del arrays["strength"]
            np.savez_compressed(file, **arrays)


def load_truth(folder: Path | str) -> Truth:
    """Read the truth beside a demo dataset."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise PalateError(f"{path} does not exist", "Only a dataset made by `palate demo` has a known truth.")
    with np.load(path, allow_pickle=False) as arrays:
        stored = {name: arrays[name] for name in arrays.files}
    strength = float(stored.pop("strength", DEMO.strength))
    return Truth(**stored, strength=strength)
