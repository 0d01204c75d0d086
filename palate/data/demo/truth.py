"""What the generator knows and no model is told: the look of every item and the taste behind every step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from palate.data.demo.people import STRENGTH
from palate.errors import PalateError
from palate.files import atomic_file

FILE = "truth.npz"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """The generator's own knowledge, in the order of the dataset it belongs to.

    Attributes:
        look: float32 ``[num_items + 1, factors]``, row 0 is padding; the factors are ``looks.FACTORS``.
        taste: float32 ``[interactions, factors]``: the user's taste at the moment of each interaction.
        popularity: float32 ``[num_items + 1]``: how liked an item is by everybody.
        natural: float32 ``[num_items + 1]``: 1 for natural materials, -1 for others.
        category: int64 ``[num_items + 1]``, an index; 0 for padding as well.
        released: int64 ``[num_items + 1]``, Unix milliseconds; 0 for "always on sale".
        category_liking: float32 ``[users, categories]``.
        natural_liking: float32 ``[users]``.
    """

    look: Floats
    taste: Floats
    popularity: Floats
    natural: Floats
    category: npt.NDArray[np.int64]
    released: npt.NDArray[np.int64]
    category_liking: Floats
    natural_liking: Floats

    def affinity(self, rows: npt.ArrayLike) -> Floats:
        """float32 ``[rows, num_items + 1]``: how much the taste behind these interactions likes every item's look.

        Nothing else enters: no popularity, no category. Padding is ``-inf``.
        """
        scores: Floats = (STRENGTH * self.taste[np.asarray(rows)] @ self.look.T).astype(np.float32)
        scores[:, 0] = -np.inf
        return scores

    def utility(self, rows: npt.ArrayLike, users: npt.ArrayLike) -> Floats:
        """The same plus everything else that the user at each row weighs (but the noise and the visit's bonus)."""
        users = np.asarray(users)
        rest = self.category_liking[users][:, self.category] + self.natural_liking[users, None] * self.natural
        scores: Floats = self.affinity(rows) + rest + self.popularity
        return scores

    def save(self, folder: Path) -> None:
        with atomic_file(Path(folder) / FILE) as part, part.open("wb") as file:
            np.savez_compressed(file, **vars(self))


def load_truth(folder: Path | str) -> Truth:
    """Read the truth beside a demo dataset."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise PalateError(f"{path} does not exist", "Only a dataset made by `palate demo` has a known truth.")
    with np.load(path, allow_pickle=False) as arrays:
        return Truth(**{name: arrays[name] for name in arrays.files})
