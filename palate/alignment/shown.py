"""What was shown and not taken, by the item that was chosen and by user: for ``shown`` negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.alignment.prefixes import Integers, Prefixes
from palate.data.dataset import Dataset
from palate.data.impressions import Impressions
from palate.data.sequences import Sequences, offsets_of

# Of one user's other requests, the newest items that a draw looks at.
_MOST = 200


@dataclass(frozen=True)
class ShownItems:
    """Negatives of the impressions, queried by rows of (user, chosen item).

    Attributes:
        impressions: all of them.
        above: whether only what was shown above a taken item counts.
        keys: int64 ascending, ``user * width + item`` of what was taken, each once.
        taken: int64, the newest impression of each key.
        starts: int64 ``[requests + 1]``: a request's impressions follow one another.
        of_user: what each user was shown and did not take, oldest first.
        width: items of the catalogue and padding.
    """

    impressions: Impressions
    above: bool
    keys: Integers
    taken: Integers
    starts: Integers
    of_user: Prefixes
    width: int

    @classmethod
    def of(cls, dataset: Dataset, above: bool) -> ShownItems:
        """Of a dataset with impressions."""
        seen = dataset.impressions
        assert seen is not None
        width = dataset.num_items + 1
        rows = np.flatnonzero(seen.taken)
        keys = seen.users[rows].astype(np.int64) * width + seen.items[rows]
        # Rows are in order of time within a user: of several the last one stays.
        keys, last = np.unique(keys[::-1], return_index=True)
        negative = seen.above_taken if above else ~seen.taken
        lengths = np.bincount(seen.users[negative], minlength=dataset.num_users).astype(np.int64)
        mine = Sequences(seen.items[negative], offsets_of(lengths)).last(_MOST)
        starts = np.searchsorted(seen.requests, np.arange(seen.num_requests + 1)).astype(np.int64)
        return cls(seen, above, keys, rows[::-1][last], starts, Prefixes(mine), width)

    def same_request(self, users: Integers, chosen: Integers) -> tuple[Integers, Integers]:
        """(rows, items) of what was shown with each row's chosen item, and not taken."""
        if not len(self.keys):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        sought = users * self.width + chosen
        place = np.minimum(np.searchsorted(self.keys, sought), len(self.keys) - 1)
        rows = np.flatnonzero(self.keys[place] == sought)
        found = self.taken[place[rows]]
        request = self.impressions.requests[found].astype(np.int64)
        counts = self.starts[request + 1] - self.starts[request]
        index = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        index += np.repeat(self.starts[request], counts)
        counted = ~self.impressions.taken[index]
        if self.above:
            positions = self.impressions.positions
            counted &= (positions[index] > 0) & (positions[index] < np.repeat(positions[found], counts))
        return np.repeat(rows, counts)[counted], self.impressions.items[index[counted]].astype(np.int64)

    def other_requests(self, users: Integers, rows: Integers) -> tuple[Integers, Integers]:
        """(rows, items) of what the users of some rows were shown at any time, and did not take."""
        place, items = self.of_user.of_users(users[rows])
        return rows[place], items

    def coverage(self, train: Sequences) -> dict[str, float]:
        """Shares of the training targets by where a rejected item can come from."""
        owners = np.repeat(np.arange(len(train)), train.lengths)
        targets = np.ones(len(owners), bool)
        targets[train.offsets[:-1][train.lengths > 0]] = False  # a first item is nobody's target
        users, chosen = owners[targets], train.values[targets].astype(np.int64)
        same = np.zeros(len(users), bool)
        same[self.same_request(users, chosen)[0]] = True
        other = ~same & (self.of_user.sequences.lengths[users] > 0)
        total = max(1, len(users))
        shares = {"from_request": same, "from_other_requests": other, "from_fallback": ~same & ~other}
        return {name: float(np.count_nonzero(mask) / total) for name, mask in shares.items()}
