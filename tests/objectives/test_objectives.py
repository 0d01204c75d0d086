"""The objectives against PyTorch's own losses and against plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.errors import PalateError
from palate.negatives.popularity import PopularityNegatives
from palate.negatives.uniform import Uniform
from palate.objectives import OBJECTIVES, Batch, Scores
from palate.objectives.base import Bias
from palate.objectives.bpr import BPR, BPRConfig
from palate.objectives.cross_entropy import CrossEntropy
from palate.objectives.gbce import GBCE, GBCEConfig
from palate.objectives.linear_cross_entropy import _CLASS_STEP, linear_cross_entropy
from palate.objectives.negatives import draw_negatives
from palate.objectives.sampled_softmax import SampledSoftmax, SampledSoftmaxConfig


def problem(
    items: int = 40, targets: int = 25, dim: int = 6, seed: int = 0, spread: float = 1.0
) -> tuple[Scores, Batch]:
    random = torch.Generator().manual_seed(seed)
    table = (torch.randn(items + 1, dim, generator=random) * spread).requires_grad_()
    queries = torch.randn(targets, dim, generator=random).requires_grad_()
    counts = torch.randint(1, 9, (items + 1,), generator=random).float()
    counts[0] = 0
    counts[items] = 0  # a cold item
    chosen = torch.randint(1, items, (targets,), generator=random)
    batch = Batch(chosen, torch.arange(1, items), counts, generator=torch.Generator().manual_seed(seed))
    return Scores(queries, table), batch


@pytest.fixture(params=[1, 32])
def class_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes as they are, and filled up to a multiple as for bfloat16, in precisions that can be compared exactly."""
    for dtype in (torch.float32, torch.float64):
        monkeypatch.setitem(_CLASS_STEP, dtype, request.param)


@pytest.mark.usefixtures("class_step")
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("block", [64 * 39, 10**7])
def test_linear_cross_entropy_equals_torch(spread: float, block: int) -> None:
    """With small logits, with logits that would overflow exp, in one block and in several."""
    random = torch.Generator().manual_seed(1)
    queries = torch.randn(300, 8, generator=random, dtype=torch.float64).requires_grad_()
    items = (torch.randn(39, 8, generator=random, dtype=torch.float64) * spread).requires_grad_()
    targets = torch.randint(0, 39, (300,), generator=random)
    expected = functional.cross_entropy(queries @ items.T, targets)
    mine = linear_cross_entropy(queries, items, targets, dtype=torch.float64, block_elements=block)
    torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-6)
    grads = torch.autograd.grad(3 * mine, (queries, items))
    expected_grads = torch.autograd.grad(3 * expected, (queries, items))
    for got, want in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


def test_linear_cross_entropy_in_bfloat16_is_close() -> None:
    random = torch.Generator().manual_seed(2)
    queries = torch.randn(200, 16, generator=random).requires_grad_()
    items = (torch.randn(300, 16, generator=random) * 0.3).requires_grad_()
    targets = torch.randint(0, 300, (200,), generator=random)
    exact = torch.autograd.grad(linear_cross_entropy(queries, items, targets), (queries, items))
    fast = torch.autograd.grad(linear_cross_entropy(queries, items, targets, dtype=torch.bfloat16), (queries, items))
    for a, b in zip(exact, fast, strict=True):
        assert float((a - b).norm() / a.norm()) < 0.01


@pytest.mark.usefixtures("class_step")
@pytest.mark.parametrize("size", [1.0, 1e3, -1e3])
@pytest.mark.parametrize("classes", [1, 3, 33])
def test_logits_that_are_all_large_or_all_small_stay_finite(size: float, classes: int) -> None:
    random = torch.Generator().manual_seed(6)
    queries = (1 + torch.rand(70, 4, generator=random)).requires_grad_()
    items = (size * (1 + torch.rand(classes, 4, generator=random))).requires_grad_()
    targets = torch.randint(classes, (70,), generator=random)
    mine, expected = linear_cross_entropy(queries, items, targets), functional.cross_entropy(queries @ items.T, targets)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5 * abs(size))
    found = torch.autograd.grad(mine, (queries, items))
    for one, other in zip(found, torch.autograd.grad(expected, (queries, items)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * abs(size))


def test_bfloat16_products_have_a_multiple_of_32_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    product = torch.mm

    def watched(one: torch.Tensor, other: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        result = product(one, other, **more)
        shapes.append((*one.shape, *result.shape))
        return result

    monkeypatch.setattr(torch, "mm", watched)
    queries, items = torch.randn(70, 16, requires_grad=True), torch.randn(101, 16, requires_grad=True)
    loss = linear_cross_entropy(queries, items, torch.arange(70), dtype=torch.bfloat16)
    assert shapes == [(128, 16, 128, 128), (128, 128, 128, 17), (128, 128, 128, 16)]
    assert [len(grad) for grad in torch.autograd.grad(loss, (queries, items))] == [70, 101]


@pytest.mark.usefixtures("class_step")
def test_weights_say_how_much_a_target_counts() -> None:
    random = torch.Generator().manual_seed(3)
    queries = torch.randn(100, 8, generator=random).requires_grad_()
    items = torch.randn(39, 8, generator=random).requires_grad_()
    targets = torch.randint(0, 39, (100,), generator=random)
    weights = torch.rand(100, generator=random) * 2
    expected = (functional.cross_entropy(queries @ items.T, targets, reduction="none") * weights).mean()
    mine = linear_cross_entropy(queries, items, targets, weights, block_elements=64 * 39)
    torch.testing.assert_close(mine, expected)
    grads = torch.autograd.grad(mine, (queries, items))
    for got, want in zip(grads, torch.autograd.grad(expected, (queries, items)), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.usefixtures("class_step")
@pytest.mark.parametrize("block", [64 * 39, 10**7])
@pytest.mark.parametrize("spread", [0.5, 20.0])
def test_a_bias_is_part_of_the_softmax(block: int, spread: float) -> None:
    random = torch.Generator().manual_seed(4)
    queries = torch.randn(200, 8, generator=random, dtype=torch.float64).requires_grad_()
    items = (torch.randn(39, 8, generator=random, dtype=torch.float64) * spread).requires_grad_()
    targets = torch.randint(0, 39, (200,), generator=random)
    chosen = torch.rand(200, 39, generator=random) < 0.1
    chosen[torch.arange(0, 200, 3), targets[::3]] = True  # some targets carry a bias themselves
    rows, classes = chosen.nonzero(as_tuple=True)
    values = torch.randn(len(rows), generator=random, dtype=torch.float64).mul(3).requires_grad_()
    weights = torch.rand(200, generator=random, dtype=torch.float64)
    logits = (queries @ items.T).index_put((rows, classes), values, accumulate=True)
    expected = (functional.cross_entropy(logits, targets, reduction="none") * weights).mean()
    mine = linear_cross_entropy(queries, items, targets, weights, (rows, classes, values), torch.float64, block)
    torch.testing.assert_close(mine, expected)
    inputs = (queries, items, values)
    for got, want in zip(torch.autograd.grad(mine, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("class_step")
@pytest.mark.parametrize("block", [200, 10**6])
def test_a_large_bias_leaves_the_softmax_finite(block: int) -> None:
    random = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(n, 4, generator=random).requires_grad_() for n in (70, 30))
    targets = torch.randint(30, (70,), generator=random)
    chosen = torch.rand(70, 30, generator=random) < 0.2
    rows, classes = chosen.nonzero(as_tuple=True)
    values = (torch.rand(len(rows), generator=random) * 200 - 20).requires_grad_()
    loss = linear_cross_entropy(queries, items, targets, bias=(rows, classes, values), block_elements=block)
    found = torch.autograd.grad(loss, (queries, items, values))
    logits = (queries @ items.T).index_put((rows, classes), values, accumulate=True)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    for one, other in zip(found, torch.autograd.grad(expected, (queries, items, values)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_scores_with_a_bias_agree_however_they_are_asked() -> None:
    scores, batch = problem()
    rows, items = torch.tensor([0, 0, 3, 24]), torch.tensor([7, 2, 40, 1])
    biased = Scores(scores.queries, scores.items, Bias(rows, items, torch.tensor([5.0, -3.0, 2.0, 1.0])))
    full = biased.full()
    torch.testing.assert_close(full[0, 7], scores.full()[0, 7] + 5)
    index = torch.randint(1, 41, (25, 30), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(biased.at(index), full.gather(1, index))
    torch.testing.assert_close(biased.at(torch.arange(1, 41)), full[:, 1:])
    expected = functional.cross_entropy(full[:, 1:40], batch.targets - 1)
    torch.testing.assert_close(CrossEntropy()(biased, batch).value, expected)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_heeds_the_weights(name: str) -> None:
    """Weight zero on half of the targets is the loss of the other half."""
    objective = OBJECTIVES[name](OBJECTIVES[name].Config())
    scores, batch = problem()
    half = torch.arange(25) < 12
    weighted = replace(batch, weights=half.float())
    objective(scores, weighted).value.backward()
    assert scores.queries.grad is not None
    assert not scores.queries.grad[~half].any()
    assert scores.queries.grad[half].abs().sum() > 0


def test_cross_entropy_leaves_cold_items_and_padding_alone() -> None:
    scores, batch = problem()
    loss = CrossEntropy()(scores, batch).value
    expected = functional.cross_entropy(scores.queries @ scores.items[1:40].T, batch.targets - 1)
    torch.testing.assert_close(loss, expected)
    (grad,) = torch.autograd.grad(loss, scores.items)
    assert not grad[0].any()
    assert not grad[40].any()


def test_gbce_equals_the_formula_in_plain_python() -> None:
    scores, batch = problem()
    config = GBCEConfig(num_negatives=5, calibration=0.6)
    drawn = draw_negatives(batch, Uniform(), 5, shared=False)
    batch.generator.manual_seed(0)  # type: ignore[union-attr]
    value = float(GBCE(config)(scores, batch).value.detach())
    alpha = 5 / (39 - 1)
    beta = alpha * (0.6 * (1 - 1 / alpha) + 1 / alpha)

    def log_sigmoid(x: float) -> float:
        return -math.log1p(math.exp(-x))

    total = 0.0
    s = (scores.queries @ scores.items.T).detach().tolist()
    for t, target in enumerate(batch.targets.tolist()):
        row = -beta * log_sigmoid(s[t][target])
        for item in drawn.items[t].tolist():
            row -= log_sigmoid(-s[t][item]) if item != target else 0.0
        total += row / 6
    assert value == pytest.approx(total / len(batch.targets), abs=1e-6)


def test_bpr_equals_the_formula_in_plain_python() -> None:
    scores, batch = problem()
    drawn = draw_negatives(batch, PopularityNegatives(), 3, shared=False)
    batch.generator.manual_seed(0)  # type: ignore[union-attr]
    loss = BPR(BPRConfig(negatives="popularity", num_negatives=3))(scores, batch)
    s = (scores.queries @ scores.items.T).detach().tolist()
    pairs = [
        math.log1p(math.exp(-(s[t][target] - s[t][item])))
        for t, target in enumerate(batch.targets.tolist())
        for item in drawn.items[t].tolist()
        if item != target
    ]
    assert float(loss.value.detach()) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    assert 0 <= loss.diagnostics["pair_accuracy"] <= 1


def test_bpr_says_nothing_of_pairs_where_there_is_none() -> None:
    scores, batch = problem()
    drawn = draw_negatives(batch, PopularityNegatives(), 3, shared=False)
    loss = BPR().loss(scores, batch, replace(drawn, valid=torch.zeros_like(drawn.valid)))
    assert float(loss.value.detach()) == 0
    assert loss.diagnostics == {}


@pytest.mark.parametrize("source", ["uniform", "popularity"])
def test_corrected_sampled_softmax_approaches_the_full_softmax(source: str) -> None:
    """The normaliser is estimated without bias, so a large sample comes close; uncorrected it does not."""
    scores, batch = problem(targets=60)
    full = float(CrossEntropy()(scores, batch).value.detach())
    config = SampledSoftmaxConfig(negatives=source, num_negatives=40_000)
    assert float(SampledSoftmax(config)(scores, batch).value.detach()) == pytest.approx(full, abs=0.02)
    wrong = SampledSoftmaxConfig(negatives=source, num_negatives=40_000, log_q=False)
    assert abs(float(SampledSoftmax(wrong)(scores, batch).value.detach()) - full) > 1


def test_in_batch_negatives_are_the_other_targets() -> None:
    scores, batch = problem()
    config = SampledSoftmaxConfig(negatives="in-batch", log_q=False)
    loss = float(SampledSoftmax(config)(scores, batch).value.detach())
    s = (scores.queries @ scores.items.T).detach()
    rows = []
    for t, target in enumerate(batch.targets):
        others = [u for u in batch.targets.tolist() if u != int(target)]
        rows.append(float(torch.logsumexp(torch.cat([s[t, target].view(1), s[t, others]]), 0) - s[t, target]))
    assert loss == pytest.approx(float(np.mean(rows)), abs=1e-5)


def test_draws_follow_popularity_and_skip_cold_items() -> None:
    _, batch = problem()
    drawn = draw_negatives(batch, PopularityNegatives(), 200_000, shared=True).items
    share = torch.bincount(drawn, minlength=41).double() / len(drawn)
    shares = batch.counts[1:40].double() / batch.counts[1:40].sum()
    torch.testing.assert_close(share[1:40], shares, atol=0.004, rtol=0)
    assert share[0] == 0
    assert share[40] == 0


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_learns_and_is_seeded(name: str) -> None:
    """The contract: a finite scalar, the same from the same seed, and gradient descent raises the targets' scores."""
    objective = OBJECTIVES[name](OBJECTIVES[name].Config())
    first = objective(*problem()).value
    again = objective(*problem()).value
    assert first.dim() == 0
    assert torch.isfinite(first)
    assert torch.equal(first, again)
    scores, batch = problem()
    optimizer = torch.optim.SGD([scores.queries, scores.items], lr=2.0)
    before = (scores.queries @ scores.items.T).detach()
    for _ in range(40):
        optimizer.zero_grad()
        objective(scores, batch).value.backward()
        optimizer.step()
    after = (scores.queries @ scores.items.T).detach()
    rows = torch.arange(len(batch.targets))

    def rank(s: torch.Tensor) -> float:
        return float((s[:, 1:40] >= s[rows, batch.targets].unsqueeze(1)).sum(1).float().mean())

    assert rank(after) < rank(before)


def test_unknown_objective_suggests() -> None:
    with pytest.raises(PalateError, match="Did you mean 'cross-entropy'"):
        OBJECTIVES["cross-entrpy"]
