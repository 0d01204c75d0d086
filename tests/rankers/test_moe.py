"""The sparse feed-forward layer against a loop over tokens, its losses against the formulas, and the encoder."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers import moe
from palate.rankers.auxiliary import AuxiliaryLosses
from palate.rankers.layers import FeedForward
from palate.rankers.moe import SparseFeedForward, balance_loss, expert_shares, router_z_loss
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec
from palate.storage.files import read_json, write_json

HISTORIES = [[3, 1, 2], [5], [], [7, 8, 9, 1, 2, 3, 4, 5], [2, 2]]


def layer(experts: int = 4, active: int = 1, dropout: float = 0.0, **options: object) -> SparseFeedForward:
    torch.manual_seed(0)
    made = SparseFeedForward(6, 10, dropout, "gelu", experts, active, **options)  # type: ignore[arg-type]
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def model(**options: object) -> SASRec:
    torch.manual_seed(0)
    made = SASRec(SASRec.Config.parse({"dim": 8, "max_length": 6, "dropout": 0.0, **options}, where="test"), 9, {})
    nn.init.normal_(made.items.ids.weight)
    return made


def one_by_one(layer: SparseFeedForward, x: Tensor) -> Tensor:
    """What the layer should give, one token and one expert at a time."""
    up_bias, down_bias = layer.up_bias.view(layer.count, -1), layer.down_bias.view(layer.count, -1)
    rows = []
    for token in x:
        exponents = [math.e ** (weights @ token) for weights in layer.router]
        probabilities = [one / sum(exponents) for one in exponents]
        best = sorted(range(layer.count), key=lambda e: -probabilities[e].item())[: layer.active]
        whole = sum(probabilities[e] for e in best) if layer.active > 1 else 1.0
        row = torch.zeros_like(token)
        for e in best:
            hidden = nn.functional.gelu(layer.up[e] @ token + up_bias[e])
            row = row + probabilities[e] / whole * (hidden @ layer.down[e] + down_bias[e])
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("tokens", [1, 3, 70])
@pytest.mark.parametrize(("experts", "active"), [(4, 1), (4, 2), (3, 3), (1, 1)])
def test_it_equals_a_loop_over_tokens(experts: int, active: int, tokens: int) -> None:
    sparse = layer(experts, active).double()
    x = torch.randn(tokens, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(tokens, 6, dtype=torch.float64)
    inputs = [x, *sparse.parameters()]
    ours, theirs = sparse(x), one_by_one(sparse, x)
    torch.testing.assert_close(ours, theirs)
    mine = torch.autograd.grad((ours * weights).sum(), inputs)
    loop = torch.autograd.grad((theirs * weights).sum(), inputs, allow_unused=True)
    for one, other in zip(mine, loop, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other)
    with torch.no_grad():  # without gradients a few tokens take another way
        torch.testing.assert_close(sparse(x), theirs)


def test_both_ways_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = layer().eval()
    taken: list[str] = []
    for name in ("all_experts", "_sorted"):
        way = getattr(SparseFeedForward, name)
        monkeypatch.setattr(SparseFeedForward, name, lambda *a, name=name, way=way: (taken.append(name), way(*a))[1])
    with torch.no_grad():
        sparse(torch.randn(moe._FEW, 6))
        sparse(torch.randn(moe._FEW + 1, 6))
    sparse(torch.randn(3, 6))
    assert taken == ["all_experts", "_sorted", "_sorted"]


@pytest.mark.parametrize("training", [True, False])
def test_every_token_is_processed_even_if_all_want_one_expert(training: bool) -> None:
    sparse = layer().train(training)
    with torch.no_grad():
        sparse.router[0], sparse.router[1:] = 1.0, -1.0
    x = torch.rand(100, 6) + 0.1
    assert sparse.route(x).experts.unique().tolist() == [0]
    out = sparse(x)
    torch.testing.assert_close(out, one_by_one(sparse, x))
    assert (out.abs().sum(1) > 0).all()
    out.sum().backward()
    assert sparse.up.grad is not None
    assert sparse.up.grad[0].any()
    assert not sparse.up.grad[1:].any()  # zero, not none: workers add their gradients up


def test_gates_are_probabilities_of_one_and_normalised_over_several() -> None:
    x = torch.randn(20, 6)
    one, two = layer(active=1).route(x), layer(active=2).route(x)
    torch.testing.assert_close(one.gates[:, 0], one.probabilities.max(1).values)
    torch.testing.assert_close(two.gates.sum(1), torch.ones(20))
    best = two.probabilities.sort(1, descending=True).values[:, :2]
    torch.testing.assert_close(two.gates[:, 0] / two.gates[:, 1], best[:, 0] / best[:, 1])


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_one_expert_is_the_dense_layer(activation: str) -> None:
    dense = FeedForward(6, 10, 0.0, activation)  # type: ignore[arg-type]
    sparse = SparseFeedForward(6, 10, 0.0, activation, experts=1, active=1)  # type: ignore[arg-type]
    with torch.no_grad():
        sparse.up.copy_(dense.up.weight[None])
        sparse.up_bias.copy_(dense.up.bias)
        sparse.down.copy_(dense.down.weight.T[None])
        sparse.down_bias.copy_(dense.down.bias)
    for tokens in (2, 90):
        x = torch.randn(tokens, 6)
        torch.testing.assert_close(sparse(x), dense(x))


def test_the_balance_loss_of_a_worked_example() -> None:
    """Four tokens, three experts: f = (1/2, 1/4, 1/4), P = (0.425, 0.25, 0.325), 3 (0.2125 + 0.0625 + 0.08125)."""
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    first = probabilities.argmax(1, keepdim=True)
    assert expert_shares(first, 3).tolist() == [0.5, 0.25, 0.25]
    assert float(balance_loss(probabilities, first)) == pytest.approx(3 * (0.2125 + 0.0625 + 0.08125))
    # Two choices a token, each counting one half: f = (3/8, 3/8, 2/8).
    both = torch.tensor([[0, 1], [0, 1], [1, 2], [2, 0]])
    assert float(balance_loss(probabilities, both)) == pytest.approx(3 * (0.425 * 0.375 + 0.25 * 0.375 + 0.325 * 0.25))


def test_the_z_loss_of_a_worked_example() -> None:
    logits = torch.log(torch.tensor([[1.0, 1.0, 2.0], [4.0, 2.0, 2.0]]))  # sums 4 and 8
    assert float(router_z_loss(logits)) == pytest.approx((math.log(4) ** 2 + math.log(8) ** 2) / 2)


def test_aux_holds_the_weighted_losses_and_what_the_log_shows() -> None:
    sparse = layer(balance=0.5, z_loss=0.1)
    x = torch.randn(40, 6)
    aux = AuxiliaryLosses()
    sparse(x, aux)
    routes = sparse.route(x)
    expected = 0.5 * balance_loss(routes.probabilities, routes.experts) + 0.1 * router_z_loss(routes.logits)
    torch.testing.assert_close(aux.penalties, [expected])
    shares = expert_shares(routes.experts, 4)
    assert aux.facts["expert_share_max"] == pytest.approx([float(shares.max())])
    assert aux.facts["expert_share_min"] == pytest.approx([float(shares.min())])
    entropy = torch.distributions.Categorical(routes.probabilities).entropy().mean()
    assert aux.facts["routing_entropy"] == pytest.approx([entropy.item()])
    assert aux.facts["balance_loss"] == pytest.approx([balance_loss(routes.probabilities, routes.experts).item()])


def use_after_training(balance: float) -> list[float]:
    """Shares of the experts after a small regression that started with all tokens at expert 0, ascending."""
    sparse = layer(balance=balance)
    with torch.no_grad():
        sparse.router[0] += 1.0
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=generator) + 0.7
    expected = torch.sin(2 * x)
    optimizer = torch.optim.Adam(sparse.parameters(), lr=0.01)
    for _ in range(150):
        aux = AuxiliaryLosses()
        loss = (sparse(x, aux) - expected).square().mean() + aux.penalties[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sorted(expert_shares(sparse.route(x).experts, 4).tolist())


def test_the_balance_loss_evens_the_use_of_experts() -> None:
    with_loss, without = use_after_training(0.1), use_after_training(0.0)
    assert with_loss[-1] < 0.4 < without[-1]
    assert without[0] < 0.15 < with_loss[0]


# -- the encoder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"norm": "post"}, {"block": "ligr"}, {"experts": 5, "active": 2}])
def test_a_score_depends_on_its_own_history_only(options: dict[str, object]) -> None:
    sparse = model(ffn="moe", **options).eval()
    together = sparse.score(HISTORIES * 8)  # more tokens than the way for a few takes
    for row, history in enumerate(HISTORIES):
        torch.testing.assert_close(together[row], sparse.score([history])[0], atol=1e-5, rtol=1e-4)


def test_penalties_are_added_up_and_facts_averaged_over_the_layers() -> None:
    sparse = model(ffn="moe", layers=3, balance=1.0).train()
    scores = sparse(PackedBatch.of(Sequences.from_lists([[1, 2, 3, 4], [5, 6]]), 6))
    assert scores.penalty is not None
    assert set(scores.facts) == {"expert_share_max", "expert_share_min", "routing_entropy", "balance_loss"}
    assert scores.penalty.item() == pytest.approx(3 * scores.facts["balance_loss"], rel=1e-5)


def test_there_is_a_penalty_in_training_only_and_passes_do_not_disturb_each_other() -> None:
    sparse = model(ffn="moe")
    batch = PackedBatch.of(Sequences.from_lists([[1, 2, 3, 4], [5, 6]]), 6)

    def gradients(between: bool) -> list[Tensor]:
        scores = sparse.train()(batch)
        total = scores.queries.sum() + scores.penalty
        if between:
            quiet = sparse.eval()(batch)
            assert quiet.penalty is None
            assert quiet.facts == {}
            assert quiet.queries.requires_grad
            total = total + 0 * quiet.queries.sum()
            sparse.train()(batch)
        return list(torch.autograd.grad(total, list(sparse.encoders.parameters())))

    for one, other in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, other)


def test_the_router_learns_from_the_task_and_from_the_penalty() -> None:
    sparse = model(ffn="moe").train()
    router = sparse.encoders[0].blocks[0].feed_forward.router
    scores = sparse(PackedBatch.of(Sequences.from_lists([[1, 2, 3, 4], [5, 6]]), 6))
    for part in (scores.queries.square().sum(), scores.penalty):
        (gradient,) = torch.autograd.grad(part, [router], retain_graph=True)
        assert gradient.any()


def test_a_dense_encoder_has_neither_penalty_nor_facts() -> None:
    scores = model().train()(PackedBatch.of(Sequences.from_lists([[1, 2, 3]]), 6))
    assert scores.penalty is None
    assert scores.facts == {}


def test_four_experts_make_the_blocks_three_times_as_large() -> None:
    sizes = [sum(p.numel() for p in model(dim=64, **o).encoders[0].blocks.parameters()) for o in ({}, {"ffn": "moe"})]
    assert sizes[1] / sizes[0] == pytest.approx(3, rel=0.01)


def test_the_same_seed_gives_the_same_numbers() -> None:
    batch = PackedBatch.of(Sequences.from_lists([[1, 2, 3, 4], [5, 6]]), 6)
    queries = []
    for _ in range(2):
        sparse = model(ffn="moe", active=2, dropout=0.3).train()
        torch.manual_seed(5)
        queries.append(sparse(batch).queries)
    assert torch.equal(queries[0], queries[1])


def test_save_and_load(tmp_path: Path) -> None:
    sparse = model(ffn="moe", experts=3, active=2).eval()
    sparse.save(tmp_path)
    again = SASRec.load(tmp_path)
    assert again.config == sparse.config
    assert torch.equal(again.score(HISTORIES), sparse.score(HISTORIES))


def test_a_run_of_before_there_were_experts_still_loads(tmp_path: Path) -> None:
    dense = model().eval()
    dense.save(tmp_path)
    facts = read_json(tmp_path / "config.json")
    for name in ("ffn", "experts", "active", "balance", "z_loss"):
        del facts["config"][name]
    write_json(tmp_path / "config.json", facts)
    assert torch.equal(SASRec.load(tmp_path).score(HISTORIES), dense.score(HISTORIES))


def test_settings_left_out_are_filled_and_recorded() -> None:
    values = SASRec.Config.parse({"ffn": "moe", "experts": 8}, where="test").model_dump()
    assert {name: values[name] for name in ("experts", "active", "balance", "z_loss")} == {
        "experts": 8,
        "active": 1,
        "balance": 0.01,
        "z_loss": 0.0,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ffn": "moe", "experts": 2, "active": 3}, "active = 3: there are 2 experts only"),
        ({"experts": 4}, "experts is a setting of ffn = 'moe'"),
        ({"ffn": "dense", "balance": 0.1}, "balance is a setting of ffn = 'moe'"),
        ({"ffn": "moe", "layers": 0}, "needs a block"),
        ({"ffn": "moe", "experts": 0}, "'experts'"),
        ({"ffn": "moe", "balance": -1}, "'balance'"),
        ({"ffn": "mixture"}, "'dense' or 'moe'"),
    ],
)
def test_inconsistent_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PalateError, match=message):
        SASRec.Config.parse(options, where="test")
    with pytest.raises(ValidationError):
        SASRec.Config(**options)


@pytest.mark.parametrize("tokens", [4, 50])
def test_half_precision_routes_alike(tokens: int) -> None:
    sparse = layer(active=2).eval()
    x = torch.randn(tokens, 6)
    with torch.no_grad():
        whole = sparse(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = sparse(x)
        half = sparse.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    # Tokens whose router was undecided may go elsewhere; the rest differ by rounding.
    for other in (mixed, half):
        assert float(((other - whole).abs().max(1).values < 0.2).float().mean()) > 0.85


def test_more_active_than_experts_is_refused_by_the_layer_too() -> None:
    with pytest.raises(ValueError, match="3 active of 2 experts"):
        layer(experts=2, active=3)
