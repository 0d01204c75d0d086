"""TIGER (Rajput et al. 2023, arXiv 2305.05065): a transformer writes the next item's semantic id, code by code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.semantic_ids import SemanticIds
from palate.features.store import FeatureStore
from palate.objectives import Objective
from palate.rankers.feature import how_to_make
from palate.rankers.packing import PackedBatch
from palate.rankers.step import TrainingStep
from palate.rankers.stored import REMEDY, read_model, write_model
from palate.rankers.tiger.config import TIGERConfig
from palate.rankers.tiger.decoder import CodeDecoder
from palate.rankers.tiger.search import Search
from palate.rankers.tiger.step import CodesStep
from palate.rankers.tiger.trie import Trie, log_shares
from palate.rankers.trained import TrainedRanker
from palate.recommender import Histories, as_sequences, mask_items
from palate.topk import best_items, checked_k

# Continuations that are computed at a time, over all histories: bounds the memory of a search.
_AT_ONCE = 2**14


class TIGER(TrainedRanker):
    """Generative retrieval: items are written as codes of their content, most telling first, and never compared.

    Where the paper has an encoder and a decoder over codes of an RQ-VAE, this is one causal decoder over codes of
    residual k-means (:mod:`palate.features.semantic_ids`), trained on the next item at all positions of a history; no
    token stands for the user. The score of an item is the log-probability of its codes among those of the catalogue.

    Candidates are scored exactly. The whole catalogue is searched with a beam: items outside it come after those that
    it has found, by the log-probability of the longest prefix that was looked at, divided evenly among its items.
    """

    name: ClassVar[str] = "tiger"
    Config: ClassVar[type[TIGERConfig]] = TIGERConfig
    config: TIGERConfig
    reads_ids: ClassVar[bool] = False
    # Histories that are scored at a time.
    batch_size = 256
    codes: Tensor

    def __init__(self, config: TIGERConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        self.decoder = CodeDecoder(config)
        self.register_buffer("codes", torch.zeros(num_items + 1, config.levels + 1, dtype=torch.long))
        self._trie: Trie | None = None
        self._trained: Trie | None = None
        self._warm: Tensor | None = None

    # -- training ------------------------------------------------------------------------------------------------

    def set_features(self, stores: Mapping[str, FeatureStore], warm: Tensor) -> None:
        """Make the codes, of all items; ``warm`` are the ones that targets can compete with."""
        config = self.config
        for name in config.modalities:
            if name not in stores:
                raise PalateError(f"no features for the modality '{name}'", how_to_make(name))
        chosen = {name: stores[name] for name in config.modalities}
        made = SemanticIds.of(chosen, config.levels, config.codebook, config.whiten, config.codes_seed)
        if made.codes.shape != self.codes.shape:
            raise PalateError(
                f"the features are of {len(made.codes) - 1} items, the model has {self.num_items}",
                "Encode this dataset again.",
            )
        self.codes = torch.from_numpy(made.codes).to(self.device)
        self._trie = self._trained = None
        self._warm = warm.clone()
        self._warm[0] = False

    def training_step(self, objective: Objective, rows: bool = False) -> TrainingStep:
        return CodesStep()

    def notes(self) -> list[str]:
        facts = self._ids.facts()
        used = ", ".join(str(count) for count in facts["used"][:-1])
        return [
            f"Semantic ids: {used} codes in use; {facts['shared']:.1%} of the items have all in common with another, "
            f"at most {facts['largest']} of them the same."
        ]

    def forward(self, batch: PackedBatch, targets: Tensor) -> Tensor:
        """Cross-entropies ``[T, levels]`` of the codes of what came after each of the batch's ``T`` items."""
        longer = batch.followed_by(targets[batch.last])
        states = self.decoder(self.codes[longer.items], longer)
        logits = [self.decoder.logits(states[:, level], level) for level in range(self.decoder.levels)]
        if self.config.softmax == "codebook":
            expected = self.codes[targets].T
            losses = [cross_entropy(one, codes, reduction="none") for one, codes in zip(logits, expected, strict=True)]
        else:
            losses = _among_siblings(self._competitors, logits, targets)
        return torch.stack(losses, 1)

    @property
    def _competitors(self) -> Trie:
        """The tree of the items that a target competes with."""
        if self.config.softmax == "catalogue":
            return self.trie
        if self._trained is None:
            assert self._warm is not None
            self._trained = Trie.of(self.codes, self._warm.to(self.device).nonzero().squeeze(1))
        return self._trained

    # -- answering -----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def trie(self) -> Trie:
        """The tree of the catalogue's codes, made when it is first needed: a resumed training has read its codes."""
        if self._trie is None or self._trie.items.device != self.device:
            self._trie = Trie.of(self.codes)
        return self._trie

    @torch.no_grad()
    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        if candidates is None:
            return self._catalogue(rows, self.config.beam)
        items = candidates.to(self.device)
        scores = torch.empty(items.shape, device=self.device)
        with self._without_dropout():
            for cut in self._cuts(len(rows), items.shape[1]):
                scores[cut] = self._search(rows[cut]).exact(self.trie.leaf[items[cut]])
        self._answer_newcomers(rows, scores, items)
        return scores

    @torch.no_grad()
    def recommend(
        self, histories: Histories, k: int, exclude_seen: bool = True, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Recommender.recommend`.

        The beam follows allowed items only, is at least ``2 k`` wide, and has room for the history that is left out.
        """
        k = checked_k(k)
        rows = as_sequences(histories)
        width = max(self.config.beam, 2 * k) + (self.config.max_length if exclude_seen else 0)
        parts = []
        for start in range(0, max(len(rows), 1), self.batch_size):
            some = rows[start : min(start + self.batch_size, len(rows))]
            scores = self._catalogue(some, width, allowed)
            if allowed is not None:
                scores[:, ~allowed.to(scores.device)] = -torch.inf
            if exclude_seen:
                mask_items(scores, some)
            parts.append(best_items(scores, k))
        items, values = zip(*parts, strict=True)
        return torch.cat(items), torch.cat(values)

    def _catalogue(self, rows: Sequences, width: int, allowed: Tensor | None = None) -> Tensor:
        """Scores ``[B, num_items + 1]`` by a beam of this width."""
        leaves = None if allowed is None else allowed.to(self.device)[self.trie.items]
        scores = torch.full((len(rows), self.num_items + 1), -torch.inf, device=self.device)
        searched = leaves is None or bool(leaves.any())
        for cut in self._cuts(len(rows), width) if searched else ():
            with self._without_dropout():
                found, known = self._search(rows[cut]).best(width, leaves)
            lowest = found.scores.masked_fill(found.nodes < 0, 0).amin(1, keepdim=True)
            # Log-probabilities are not positive: what was not found comes after all that was.
            whole = torch.cat([lowest + known, known[:, :1]], 1)  # one column more for what is none
            whole.scatter_(1, found.nodes.masked_fill(found.nodes < 0, self.num_items), found.scores)
            scores[cut, 1:] = whole[:, self.trie.leaf[1:]]
        self._answer_newcomers(rows, scores, None)
        return scores

    def _search(self, rows: Sequences) -> Search:
        """The histories, read. An empty one is answered elsewhere, and is read as one item."""
        batch = PackedBatch.of(rows, self.config.max_length, self.device)
        lengths = torch.from_numpy(batch.lengths).to(self.device)
        items = torch.zeros(len(lengths), int(batch.lengths.max()), dtype=torch.long, device=self.device)
        items[torch.repeat_interleave(lengths), batch.positions] = batch.items
        return Search(self.decoder, self.trie, self.decoder.read(self.codes[items], lengths))

    @contextmanager
    def _without_dropout(self) -> Iterator[None]:
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    def _cuts(self, rows: int, width: int) -> list[slice]:
        step = max(1, _AT_ONCE // max(width, 1))
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    def _answer_newcomers(self, rows: Sequences, scores: Tensor, items: Tensor | None) -> None:
        """Scores of empty histories, in place: popularity, whose order is all that counts."""
        empty = torch.from_numpy(rows.lengths == 0).to(self.device)
        if self.popularity is None or not bool(empty.any()):
            return
        popular = self.popularity.to(self.device)
        scores[empty] = popular.expand(int(empty.sum()), -1) if items is None else popular[items[empty]]
        if items is None:
            scores[:, 0] = -torch.inf

    # -- saving and describing -----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """``config.json`` and ``model.safetensors``, the codes among its tensors."""
        tensors = dict(self.state_dict())
        if self.popularity is not None:
            tensors["popularity"] = self.popularity
        write_model(folder, self.name, self.num_items, self.config, tensors)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        num_items, config, tensors = read_model(folder, cls.name, cls.Config)
        popularity = tensors.pop("popularity", None)
        try:
            model = cls(config, num_items, dict.fromkeys(config.modalities, 0))
            model.load_state_dict(tensors)
            codes = model.codes[1:]
            if codes.min() < 0 or codes.max() >= config.codebook or len(torch.unique(codes, dim=0)) < num_items:
                raise ValueError("its codes are no semantic ids")
            if popularity is not None and popularity.shape != (num_items + 1,):
                raise ValueError(f"popularity of {len(popularity)} items")
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            why = " ".join(str(error).split())[:400]
            raise PalateError(f"{folder} holds no '{cls.name}' of {num_items} items ({why})", REMEDY) from None
        model.popularity = popularity
        return model.to(device).eval()

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "modalities": list(self.config.modalities),
            "parameters": sum(parameter.numel() for parameter in self.parameters()),
            "codes": self._ids.facts(),
        }

    @property
    def _ids(self) -> SemanticIds:
        return SemanticIds(self.codes.cpu().numpy())


def _among_siblings(trie: Trie, logits: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    """Cross-entropies of targets ``[T]``, by level, each over the codes that continue the target's prefix in a tree.

    Args:
        logits: by level, ``[T, codebook]``.
    """
    leaves, first = trie.leaf[targets], trie.levels[0]
    losses = [cross_entropy(logits[0][:, first.codes], first.of_leaf[leaves], reduction="none")]
    for number, (level, below) in enumerate(pairwise(trie.levels)):
        owners, children = trie.continued(number, level.of_leaf[leaves])
        shares = log_shares(logits[number + 1][owners, below.codes[children]], owners, len(leaves))
        losses.append(-shares[children == below.of_leaf[leaves][owners]])
    return losses
