"""What all neural sequence rankers share: item vectors, scoring, answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.fields import FieldStore, Vocabulary
from palate.features.store import FeatureStore
from palate.objectives.base import Bias, Objective, Scores
from palate.objectives.cross_entropy import CrossEntropy
from palate.rankers.auxiliary import AuxiliaryLosses
from palate.rankers.config import SequentialConfig
from palate.rankers.feature import Feature, how_to_make
from palate.rankers.fusions import FUSIONS
from palate.rankers.neighbours import NeighbourScores, as_bias, joined
from palate.rankers.packing import OneSequence, PackedBatch
from palate.rankers.sharded_ids import ShardedIds, numbers_elsewhere, sharded_ids
from palate.rankers.sharded_softmax import ShardedSoftmaxStep
from palate.rankers.step import ObjectiveStep, TrainingStep
from palate.rankers.trained import TrainedRanker
from palate.recommender import Histories, ItemScorer, Shard, as_sequences

# Keeps exp() of a biased logit finite, whatever was learned.
_LARGEST_BIAS = 20.0
# Adam moves a parameter by about the learning rate per step; a bias has to travel farther than a weight.
_BIAS_SCALE = 10.0


class SequentialRanker(TrainedRanker):
    """A neural encoder of item sequences whose score is a product of a query and an item vector.

    Args:
        config: hyper-parameters, of the subclass's own ``Config``.
        num_items: catalogue size; indices run from 1.
        widths: width of each feature modality, by name.
    """

    Config: ClassVar[type[SequentialConfig]] = SequentialConfig
    config: SequentialConfig
    # Whether its encoder reads items alone, so that an exported one needs no other input.
    exports: ClassVar[bool] = True

    def __init__(self, config: SequentialConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        fusion = FUSIONS[config.fusion]
        self.items = fusion(
            num_items,
            config.dim,
            config.modalities,
            self.widths,
            missing=config.missing,
            id_dropout=config.id_dropout,
            feature_dropout=config.feature_dropout,
            whiten=config.whiten,
        )
        if self.items.out_dim % config.dim:
            raise PalateError(
                f"fusion '{config.fusion}' makes vectors of width {self.items.out_dim}, not a multiple of {config.dim}",
                "Correct its out_dim: a multiple of dim.",
            )
        # What the codes of the modality `fields` stand for; comes with its store.
        self.fields: Vocabulary | None = None
        self.repeat = nn.Parameter(torch.zeros(config.max_length)) if config.repeat_bias else None
        # What the nearest items of the newest ones add to the scores; fitted when the rest has been trained.
        self.neighbours: NeighbourScores | None = None
        # Of all items, or of those of the shard.
        self._table: Tensor | None = None
        ids = getattr(self.items, "ids", None)
        if isinstance(ids, ShardedIds):
            from palate.rankers.shard_scores import WorkersShard

            self.shard = WorkersShard.of(ids)

    # -- what a subclass defines ---------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, inputs: Tensor, batch: PackedBatch) -> Tensor:
        """Hidden states ``[T, out_dim]`` of the input vectors ``[T, out_dim]``; position t sees its past only."""

    def encode_with_aux(self, inputs: Tensor, batch: PackedBatch, aux: AuxiliaryLosses) -> Tensor:
        """:meth:`encode` for a training step; an encoder that has penalties or facts leaves them in ``aux``."""
        return self.encode(inputs, batch)

    # -- training ------------------------------------------------------------------------------------------------

    def training_step(self, objective: Objective, rows: bool = False) -> TrainingStep:
        if isinstance(objective, CrossEntropy) and sharded_ids(self) is not None:
            return ShardedSoftmaxStep(self)
        return ObjectiveStep(objective, rows)

    def set_features(
        self,
        stores: Mapping[str, FeatureStore],
        warm: Tensor,
        keep_statistics: bool = False,
        made: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Give the model its frozen features.

        Args:
            stores: one per modality other than ``id``.
            warm: bool ``[num_items + 1]``, items with training interactions.
            keep_statistics: centre and whiten as the model did before (a warm start), not anew.
            made: the buffers of ``items.features`` that another process has made of the same stores; they are taken as
                they are, without a copy.
        """
        self._table = None
        self.items.warm = warm.to(self.items.warm.device)
        for name in self.widths:
            if name not in stores:
                raise PalateError(f"no features for the modality '{name}'", how_to_make(name))
            store = stores[name]
            feature = self.items.feature(name)
            if made is not None:
                if isinstance(store, FieldStore):
                    self.fields = store.vocabulary
                for buffer, _ in feature.named_buffers():
                    setattr(feature, buffer, made[f"{name}.{buffer}"])
                continue
            vectors = torch.tensor(store.vectors[:], dtype=feature.dtype, device=self.items.warm.device)
            if len(vectors) != self.num_items + 1 or not feature.accepts(vectors):
                raise PalateError(
                    f"the {name} features are {store.vectors.shape}, the model reads "
                    f"{(self.num_items + 1, self.widths[name])}",
                    "Encode this dataset again.",
                )
            if isinstance(store, FieldStore):
                self.fields = store.vocabulary
            present = torch.tensor(store.present[:], device=vectors.device)
            feature.fill(vectors, present, self.items.warm, keep_statistics)
        if not keep_statistics:
            self.items.initialise()

    def forward(self, batch: PackedBatch, table: Tensor | None = None, index: Tensor | None = None) -> Scores:
        """Factored scores of every item after each of the batch's ``T`` tokens.

        Args:
            table: the items' vectors, if they were made already (see :attr:`fixed_items`).
            index: int64 ``[n]``, ascending and none twice: make the vectors and scores of these items only. All items
                of the batch are among them.
        """
        places = batch.items
        if index is not None:
            table, places = self.items.rows(index), torch.searchsorted(index, batch.items)
        elif table is None:
            table = self.items() if self.training or torch.is_grad_enabled() else self.table()
        inputs = table.index_select(0, places)
        if self.training and self.config.token_dropout:
            inputs = inputs * (torch.rand(len(inputs), 1, device=inputs.device) >= self.config.token_dropout)
        aux = AuxiliaryLosses()
        scores = self.scores_of(self.encode_with_aux(inputs, batch, aux), table, batch)
        return aux.attach(scores if index is None else replace(scores, index=index))

    @property
    def fixed_items(self) -> bool:
        """Whether ``Scores.items`` are the items' vectors, the same in training and in eval mode."""
        return not (self.config.id_dropout or self.config.feature_dropout) and self.config.similarity == "dot"

    def scores_of(self, hidden: Tensor, table: Tensor, batch: PackedBatch) -> Scores:
        """The scores that hidden states ``[T, out_dim]`` of the batch's tokens stand for."""
        bias = None if self.repeat is None else Bias(*self._repeats(*batch.pasts()))
        if self.neighbours is not None:
            added = self.neighbours.at_positions(batch.items.cpu().numpy(), batch.lengths)
            bias = joined(bias, as_bias(added, hidden.device))
        return self._scores(hidden, table, bias)

    def _repeats(self, rows: Tensor, items: Tensor, lags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return rows, items, self.repeat_values()[lags]

    def repeat_values(self) -> Tensor:
        """``[max_length]``: by places before the end of the history, what is added to the score of the item there."""
        assert self.repeat is not None
        return (_BIAS_SCALE * self.repeat).clamp(-_LARGEST_BIAS, _LARGEST_BIAS)

    def _scores(self, hidden: Tensor, table: Tensor, bias: Bias | None = None) -> Scores:
        hidden, table = hidden.float(), table.float()  # under mixed precision the scores stay exact
        if self.config.similarity == "cosine":
            hidden = nn.functional.normalize(hidden, dim=1) / self.config.temperature
            table = nn.functional.normalize(table, dim=1)
        return Scores(hidden, table, bias)

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._table = None
        return super().train(mode)

    # -- more items ----------------------------------------------------------------------------------------------

    def append_items(self, features: Mapping[str, tuple[Tensor, Tensor]], count: int) -> Self:
        """The same model with ``count`` more items, numbered behind the others, whose scores stay as they are.

        Without its neighbours. A new item has no id of its own: like every item without training interactions it shares
        the vector ``unknown`` (:class:`palate.rankers.items.ItemEncoder`). To users without a history it is the least
        popular. A ranker that makes its items' vectors in another way overrides this, or is refused.

        Args:
            features: by modality, ``[count, width]`` as a store holds them and bool ``[count]``: which are there.

        Raises:
            PalateError: features that are absent or of another width; a model or a fusion that needs more of each item.
        """
        from palate.rankers.append import append_items

        return append_items(self, features, count)

    @torch.no_grad()
    def without_neighbours(self, histories: Sequences) -> Tensor:
        """Scores ``[B, num_items + 1]`` to which the neighbours have added nothing."""
        return self._own_scores(histories).full()

    # -- answering -----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.items.warm.device

    @torch.no_grad()
    def table(self) -> Tensor:
        """The catalogue's vectors ``[num_items + 1, out_dim]``, made once and cached until the weights change.

        Raises:
            PalateError: this model has a shard of the items.
        """
        if self.shard is not None:
            raise PalateError("no process has the vectors of all items", "Rank, or recommend, in all of them together.")
        if self._table is None:
            was_training = self.training
            self.eval()
            self._table = self.items()
            if was_training:
                super().train(True)
        return self._table

    @torch.no_grad()
    def queries(self, histories: Sequences) -> Scores:
        """Factored scores after each history: queries ``[B, out_dim]``; in eval mode, whatever the mode is."""
        scores = self._own_scores(histories)
        if self.neighbours is None or not len(histories):
            return scores
        return replace(scores, bias=joined(scores.bias, as_bias(self.neighbours.of(histories), self.device)))

    def _own_scores(self, histories: Sequences, by_rows: bool = False) -> Scores:
        """The same without the neighbours.

        Args:
            by_rows: make no vectors but those of the histories' items, all at once, and leave ``Scores.items`` empty.
        """
        was_training = self.training
        if was_training:  # walking through all modules costs a short answer a tenth of its time
            self.eval()
        try:
            batch = self._packed(histories) if len(histories) else None
            places = torch.empty(0, dtype=torch.long, device=self.device) if batch is None else batch.items
            if by_rows:
                read, places = torch.unique(places, return_inverse=True)
                vectors = self.items.rows(read)
                table = vectors[:0]
            else:
                table = vectors = self.table()
            if batch is None:
                return self._scores(table.new_zeros(0, table.shape[1]), table)
            hidden = batch.at_last(self.encode(vectors.index_select(0, places), batch))
            return self._scores(hidden, table, self._repeats_of(batch))
        finally:
            if was_training:
                super().train(True)

    def _repeats_of(self, batch: PackedBatch) -> Bias | None:
        """What the items of each history get for being there."""
        return None if self.repeat is None else Bias(*self._repeats(*batch.whole_pasts()))

    def _packed(self, histories: Sequences) -> PackedBatch:
        if len(histories) == 1:
            return OneSequence.of_newest(histories, self.config.max_length, self.device)
        return PackedBatch.of(histories, self.config.max_length, self.device)

    @torch.no_grad()
    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        new = self._newcomers(rows)
        if candidates is not None:
            candidates = candidates.to(self.device)
            some = self.queries(rows).at(candidates)
            if self.popularity is not None and new is not None:
                some[new] = self.popularity.to(self.device)[candidates[new]]
            return some
        full = self._own_scores(rows).full()
        if self.neighbours is not None:
            self.neighbours.add_to(full, rows)
        if self.popularity is not None and new is not None:
            full[new] = self.popularity.to(self.device)
        full[:, 0] = -torch.inf
        return full

    def _newcomers(self, histories: Sequences) -> Tensor | None:
        """bool ``[B]``, which histories are empty; None: none is."""
        empty = histories.lengths == 0
        return torch.from_numpy(empty).to(self.device) if empty.any() else None

    @property
    def scores_in_blocks(self) -> bool:
        """True but for a ranker with a way of its own to score."""
        from palate.rankers.append import overridden

        return not overridden(type(self), "SequentialRanker") & {"score", "queries", "table"}

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        from palate.rankers.block_scores import BlockScorer
        from palate.rankers.shard_scores import ShardScorer

        kind = BlockScorer if self.shard is None else ShardScorer
        return kind(self, as_sequences(histories), memory)

    # -- saving and describing -----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """``config.json``, ``weights.safetensors`` and ``items.safetensors``: the item vectors that scoring needs, so
        that the model answers without the features it was trained on."""
        from palate.rankers.stored import save_sequential

        save_sequential(self, folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        from palate.rankers.stored import load_sequential

        return load_sequential(cls, folder, device)

    @classmethod
    def load_shard(cls, folder: Path, shard: Shard, device: str = "cpu") -> Self:
        from palate.rankers.stored_shard import load_shard

        return load_shard(cls, folder, shard, device)

    def describe(self) -> dict[str, Any]:
        coverage = {
            name: float(feature.present[1:].float().mean())
            for name, feature in self.items.features.items()
            if isinstance(feature, Feature)
        }
        return {
            "name": self.name,
            "num_items": self.num_items,
            "modalities": list(self.config.modalities),
            "parameters": sum(p.numel() for p in self.parameters()) + numbers_elsewhere(self),
            "coverage": coverage,
            **({} if self.neighbours is None else {"neighbours": self.neighbours.describe()}),
        }
