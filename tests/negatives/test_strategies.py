"""One name of a strategy, wherever items are drawn that were not the answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import random_logs

from palate.config import Config
from palate.data.positions import training_positions
from palate.errors import PalateError
from palate.evaluation.candidates import sample_candidates
from palate.mllm.alignment.config import PairsConfig
from palate.mllm.alignment.draw import NegativeSampler
from palate.mllm.finetune.config import ExamplesConfig
from palate.mllm.finetune.examples import PromptCases
from palate.negatives import NEGATIVES
from palate.negatives.base import Items, NegativeStrategy, RejectedItems, SamplingContext, WeightedStrategy
from palate.negatives.config import NegativesConfig, draw_rejected
from palate.negatives.row_sets import RowSets
from palate.objectives import Batch
from palate.objectives.bpr import BPR, BPRConfig
from palate.objectives.hanorec import HaNoRecConfig
from palate.objectives.negatives import draw_negatives
from palate.objectives.sampled_softmax import SampledSoftmaxConfig

FIVE = 5


class OnlyFive(WeightedStrategy):
    """All weight on the first items of the catalogue."""

    def weights(self, counts: Tensor, power: float) -> Tensor:
        return (torch.arange(len(counts)) <= FIVE).double()


class Worst(NegativeStrategy):
    """The last of the pool."""

    source = "scores"

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        values, pool = context.best(int(config.pool_k))
        return RejectedItems(pool[:, -1:], values[:, -1:] > -torch.inf, pool, values > -torch.inf)

    def pick(self, candidates: Items, count: int, rng: np.random.Generator) -> Items:
        return candidates[-count:]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with NEGATIVES.registered("five", OnlyFive), NEGATIVES.registered("worst", Worst):
        yield


def context() -> SamplingContext:
    none = torch.zeros(0, dtype=torch.long)
    scores = torch.arange(30.0).expand(4, -1)
    forbidden = RowSets.of(none, none, 4, 30)
    return SamplingContext(
        torch.arange(4), forbidden, torch.ones(30), lambda part: scores[part].clone(), torch.arange(4),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip


def test_weights_serve_losses_alignment_language_models_and_evaluation() -> None:
    dataset = random_logs(users=30, items=60, tests=1)
    assert sample_candidates(dataset, "test", negatives=2, kind="five").items[:, 1:].max() <= FIVE
    cases = training_positions(dataset, None, 1)
    prompts = PromptCases.draw(dataset, cases, source=ExamplesConfig(negatives="five").negatives, negatives=1, seed=0)
    assert 1 <= prompts.candidates[:, 1:].min() <= prompts.candidates[:, 1:].max() <= FIVE
    drawn = NegativeSampler(dataset, cases, PairsConfig(negatives="five"), 1, seed=0).draw(0, None)
    np.testing.assert_array_equal(drawn.candidates, prompts.candidates)
    assert int(draw_rejected(NegativesConfig(strategy="five", num_negatives=8), context()).classes.max()) <= FIVE
    batch = Batch(torch.tensor([7, 8]), torch.arange(1, 30), torch.ones(30))
    assert int(draw_negatives(batch, BPR(BPRConfig(negatives="five")).strategy, 20, shared=False).items.max()) <= 6


def test_a_pool_serves_rankers_and_language_models() -> None:
    assert draw_rejected(NegativesConfig(strategy="worst", pool_k=4), context()).classes.flatten().tolist() == [26] * 4
    dataset = random_logs(users=30, items=60, tests=1)
    cases = training_positions(dataset, None, 1)
    config = PairsConfig(negatives="worst", pool_k=3)
    assert config.pooled
    pools = np.tile(np.array([[5, 9, 13]], np.int32), (len(cases), 1))
    assert set(NegativeSampler(dataset, cases, config, 1, seed=0).draw(0, pools).candidates[:, 1].tolist()) == {13}


@pytest.mark.parametrize(
    ("config", "name"),
    [(PairsConfig, "in-batch"), (PairsConfig, "mixed"), (ExamplesConfig, "top-k"), (BPRConfig, "in-batch"),
     (SampledSoftmaxConfig, "worst")],
)  # fmt: skip
def test_a_strategy_is_refused_where_it_cannot_draw(config: type, name: str) -> None:
    with pytest.raises(PalateError, match=rf"^here: 'negatives': the negative strategy '{name}' cannot be used here"):
        config.parse({"negatives": name}, where="here")
    with pytest.raises(PalateError, match="no negative strategy named 'fife'"):
        config.parse({"negatives": "fife"}, where="here")


@pytest.mark.parametrize(
    ("kind", "values", "unread"),
    [
        (NegativesConfig, {"strategy": "uniform"}, {"pool_k", "temperature", "mix", "power", "precision"}),
        (NegativesConfig, {"strategy": "popularity"}, {"pool_k", "temperature", "mix", "precision"}),
        (NegativesConfig, {"strategy": "in-batch"}, {"pool_k", "temperature", "mix", "power", "precision"}),
        (NegativesConfig, {"strategy": "top-k"}, {"mix", "power"}),
        (NegativesConfig, {"strategy": "mixed"}, {"power"}),
        (NegativesConfig, {"strategy": "hard"}, {"pool_k", "temperature", "mix", "power"}),
        (NegativesConfig, {"strategy": "shown", "shown_fallback": "mixed"}, {"power"}),
        (
            NegativesConfig,
            {"strategy": "five"},
            {"pool_k", "temperature", "mix", "precision"},
        ),  # weights read power
        (NegativesConfig, {"strategy": "worst"}, set()),  # it does not declare what it reads
        (BPRConfig, {}, {"power"}),
        (BPRConfig, {"negatives": "popularity"}, set()),
        (SampledSoftmaxConfig, {"negatives": "in-batch"}, {"power", "num_negatives"}),
        (HaNoRecConfig, {}, {"neighbours", "shuffle_of"}),
        (HaNoRecConfig, {"hardness": "shuffled", "shuffle_of": "as-written", "noise": "none"}, {"spread", "sigma"}),
        (PairsConfig, {}, {"pool_k", "depth", "mask_future"}),
        (PairsConfig, {"negatives": "worst"}, set()),
    ],
)
def test_settings_that_nothing_reads(kind: type[Config], values: dict[str, str], unread: set[str]) -> None:
    assert set(kind.parse(values, where="here").unread()) == unread


def test_only_what_was_given_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    NegativesConfig(strategy="uniform", power=2.0, num_negatives=3).note_unread("here")
    assert capsys.readouterr().err == "Note: here: 'power' does nothing without negatives popularity.\n"
