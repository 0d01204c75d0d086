"""A dataset whose interactions stay on disk: what training needs of one that is larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from palate.data.catalogue import Catalogue
from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences, joined
from palate.data.shards import Shards, make_shards
from palate.errors import PalateError
from palate.storage.files import no_artefact, read_json
from palate.storage.remote import local, under


@dataclass(frozen=True, repr=False)
class StreamedDataset(Dataset):
    """A dataset without its interactions in memory: catalogue, counts, and shards to read sequences from.

    Whatever needs all interactions at once is refused by name.
    """

    def __repr__(self) -> str:
        return f"StreamedDataset({self.name}: {self.num_items:,} items, in {self.folder})"

    @classmethod
    def open(cls, folder: Path | str) -> StreamedDataset:
        """Open a folder that ``palate prepare`` wrote; nothing of its interactions is read.

        Raises:
            PalateError: there is no dataset.
        """
        folder = local(folder)
        if not (folder / "manifest.json").is_file():
            raise no_artefact(folder, "a dataset", "manifest.json", "Make one with `palate prepare`.")
        manifest = read_json(folder / "manifest.json")
        catalogue = Catalogue.load(folder / "items.parquet", under(folder, str(manifest["image_root"])))
        nobody, nothing = pl.Series("user_id", [], dtype=pl.String), np.zeros(0, np.int32)
        return cls(
            catalogue,
            nobody,
            np.zeros(1, np.int64),
            nothing,
            nothing.astype(np.uint8),
            None,
            None,
            manifest,
            folder=folder,
        )

    @cached_property
    def shards(self) -> Shards:
        """Made on the first use; one process at a time."""
        assert self.folder is not None
        return make_shards(self.folder, self.num_items)

    @cached_property
    def num_users(self) -> int:
        assert self.folder is not None
        return int(pq.ParquetFile(self.folder / "users.parquet").metadata.num_rows)

    @cached_property
    def fingerprint(self) -> str:
        """As the manifest has it."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        return self.shards.train_counts

    def __len__(self) -> int:
        return int(self.shards.sizes("interactions").sum())

    def sampled_cases(self, split: Literal["valid", "test"], users: int, seed: int, times: bool = True) -> Cases:
        """Without times: shards hold none."""
        if split != "valid":
            self._refuse("test cases")
        sizes = self.shards.sizes("cases")
        chosen = self.sample(int(sizes.sum()), users, seed)
        first, parts = 0, []
        for number, size in enumerate(sizes.tolist()):
            mine = chosen[(chosen >= first) & (chosen < first + size)] - first
            if len(mine):
                rows = self.shards.cases(number)
                parts.append((rows.items.take(mine), rows.targets.take(mine)))
            first += size
        histories, targets = (joined([part[i] for part in parts]) for i in (0, 1))
        return Cases(chosen, histories, targets)

    def cases(self, split: Literal["valid", "test"], times: bool = True) -> Cases:
        return self.sampled_cases(split, 0, 0)

    def train_sequences(self, times: bool = False) -> Sequences:
        self._refuse("all training sequences")

    @property
    def rows_user(self) -> npt.NDArray[np.int64]:
        self._refuse("all interactions")

    def history_of(self, user: str) -> npt.NDArray[np.int32]:
        self._refuse("a user's history")

    def _refuse(self, what: str) -> NoReturn:
        raise PalateError(f"{what} of {self.folder} would have to be in memory", "Leave out trainer.stream.")
