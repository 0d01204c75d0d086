"""DPO, cDPO, IPO and SimPO against TRL's own code: values, and gradients to every parameter of a small model.

TRL keeps its DPO losses inside the trainer, so its ``_compute_loss`` runs here on a trainer that was never set up: only
what that method reads is given to it. It imports within a few seconds, in the tests that need it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from preference_helpers import make
from torch import Tensor, nn

from palate.objectives import Pairs

WORDS, PROMPT = 13, 2
IDENTITY: Callable[[Any], Any] = lambda values: values  # noqa: E731


class Model(nn.Module):
    """Random weights, float64: the next word from the last one. Answers as TRL's fused head does."""

    is_gradient_checkpointing = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.words = nn.Parameter(torch.randn(WORDS, 5, generator=random, dtype=torch.float64))
        self.out = nn.Parameter(torch.randn(WORDS, 5, generator=random, dtype=torch.float64))

    def log_probs(self, input_ids: Tensor, answer: Tensor) -> Tensor:
        """Log-probability of every word but the first, 0 outside the answer."""
        all_words = (self.words[input_ids[:, :-1]] @ self.out.T).log_softmax(-1)
        return all_words.gather(2, input_ids[:, 1:, None])[..., 0] * answer[:, 1:]

    def forward(self, input_ids: Tensor, labels: Tensor, **others: Any) -> SimpleNamespace:
        found = self.log_probs(input_ids, (labels != -100).double())
        nothing = torch.zeros_like(found)
        return SimpleNamespace(log_probs=found, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())


@pytest.fixture(params=[0, 1])
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Three pairs of texts whose answers differ in length; TRL stacks the chosen ones on the rejected ones."""
    random = torch.Generator().manual_seed(request.param)
    texts = torch.randint(0, WORDS, (6, 9), generator=random)
    lengths = torch.tensor([5, 7, 2, 4, 6, 3])
    place = torch.arange(9).expand(6, -1)
    answer = ((place >= PROMPT) & (place < PROMPT + lengths[:, None])).long()
    return SimpleNamespace(policy=Model(request.param), reference=Model(9), texts=texts, answer=answer, lengths=lengths)


def theirs(case: SimpleNamespace, kind: str, rows: list[int], **settings: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    from trl import DPOTrainer

    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer.accelerator = SimpleNamespace(device="cpu", gather=IDENTITY, gather_for_metrics=IDENTITY)
    trainer.args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    trainer.model, trainer.ref_model = case.policy, case.reference
    trainer.loss_types, trainer.loss_weights = [kind], [1.0]
    trainer.beta, trainer.label_smoothing = settings["beta"], settings.get("label_smoothing", 0.0)
    trainer.f_divergence_type, trainer.ld_alpha = "reverse_kl", None
    trainer.aux_loss_enabled = trainer.precompute_ref_logps = trainer.use_weighting = False
    trainer._metrics = {"train": defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    both = rows + [row + 3 for row in rows]
    inputs = {
        "input_ids": case.texts[both],
        "attention_mask": torch.ones_like(case.texts[both]),
        "completion_mask": case.answer[both],
    }
    loss = trainer._compute_loss(case.policy, inputs, return_outputs=False)
    told = {name: values[-1] for name, values in trainer._metrics["train"].items() if name.startswith("rewards")}
    case.told = told
    return loss, torch.autograd.grad(loss, list(case.policy.parameters()))


def pairs_of(case: SimpleNamespace, average: bool = False) -> Pairs:
    """The same texts as Palate sees them: one log-probability a text."""

    def scores(model: Model) -> tuple[Tensor, Tensor]:
        whole = model.log_probs(case.texts, case.answer.double()).sum(1)
        whole = whole / case.lengths if average else whole
        return whole[:3], whole[3:, None]

    chosen, rejected = scores(case.policy)
    with torch.no_grad():
        reference = scores(case.reference)
    return Pairs(chosen, rejected, *reference)


def agree(case: SimpleNamespace, mine: Tensor, loss: Tensor, gradients: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(mine, loss, rtol=0, atol=1e-10)
    for got, want in zip(torch.autograd.grad(mine, list(case.policy.parameters())), gradients, strict=True):
        assert want.abs().max() > 1e-3
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_dpo(case: SimpleNamespace) -> None:
    expected = theirs(case, "sigmoid", [0, 1, 2], beta=0.2)
    result = make("dpo", beta=0.2)(pairs_of(case))
    agree(case, result.losses.mean(), *expected)
    assert result.diagnostics["reward_margin"] == pytest.approx(case.told["rewards/margins"])
    assert result.diagnostics["reward_accuracy"] == pytest.approx(case.told["rewards/accuracies"])
    assert result.diagnostics["chosen_reward"] == pytest.approx(case.told["rewards/chosen"])
    assert result.diagnostics["rejected_reward"] == pytest.approx(case.told["rewards/rejected"])


def test_cdpo(case: SimpleNamespace) -> None:
    """TRL smooths labels in its ``aot`` loss, which is cDPO for a batch of one pair: there is nothing to sort."""
    alone = [theirs(case, "aot", [row], beta=0.2, label_smoothing=0.15) for row in range(3)]
    loss = torch.stack([one for one, _ in alone]).mean()
    gradients = tuple(torch.stack(parts).mean(0) for parts in zip(*(found for _, found in alone), strict=True))
    agree(case, make("cdpo", beta=0.2, label_smoothing=0.15)(pairs_of(case)).losses.mean(), loss, gradients)


def test_ipo(case: SimpleNamespace) -> None:
    """TRL averages over an answer's words inside its IPO; here the log-probabilities arrive averaged."""
    expected = theirs(case, "ipo", [0, 1, 2], beta=0.6)
    agree(case, make("ipo", beta=0.6)(pairs_of(case, average=True)).losses.mean(), *expected)
    summed = make("ipo", beta=0.6)(pairs_of(case)).losses.mean()
    assert abs(float((summed - expected[0]).detach())) > 0.1  # the averaging is what makes them agree


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_simpo(case: SimpleNamespace, gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOTrainer

    trainer = CPOTrainer.__new__(CPOTrainer)
    trainer.accelerator = SimpleNamespace(device="cpu")
    trainer.alpha, trainer.label_smoothing = 0.0, 0.0
    trainer.loss_type, trainer.simpo_gamma, trainer.beta = "simpo", gamma, 2.0
    batch = pairs_of(case, average=True)
    loss = trainer.cpo_loss(batch.chosen, batch.rejected[:, 0])[0].mean()
    gradients = torch.autograd.grad(loss, list(case.policy.parameters()), retain_graph=True)
    agree(case, make("simpo", beta=2.0, gamma=gamma)(batch).losses.mean(), loss, gradients)
