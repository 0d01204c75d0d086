"""A sparse mixture of experts in the place of a block's feed-forward layer (Fedus et al. 2022; Zoph et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from palate.rankers.layers import FeedForward
from palate.rankers.notes import Notes


@dataclass(frozen=True)
class Routes:
    """Which experts each of ``T`` tokens goes to, ``k`` of ``E``.

    Attributes:
        logits: float ``[T, E]``, what the router says.
        probabilities: float32 ``[T, E]``, its softmax.
        experts: int64 ``[T, k]``, the chosen experts, the likeliest first.
        gates: float32 ``[T, k]``, what each chosen expert's output is multiplied by.
    """

    logits: Tensor
    probabilities: Tensor
    experts: Tensor
    gates: Tensor


class SparseFeedForward(nn.Module):
    """Several feed-forward networks, of which each token passes through the few that a linear router chooses.

    The parameters grow with ``experts``, the work of a token with ``active`` only. No expert has a limit on its tokens:
    every token is processed by all the experts it chose, in training and in serving, so that a score never depends on
    what else is in the batch.

    With one active expert its output is multiplied by the router's probability (the Switch transformer, Fedus et al.
    2022, section 2.1): normalised over a single choice the gate would always be 1, and the loss could not teach the
    router anything. With several, the gates are the probabilities normalised over the chosen (Shazeer et al. 2017),
    which keeps the size of the output, and their ratio still has a gradient.

    Args:
        dim: width of a token.
        hidden: width inside each expert.
        dropout: inside each expert.
        activation: ``gelu`` or ``relu``.
        experts: how many feed-forward networks.
        active: how many of them each token passes through.
        balance: coefficient of the load-balancing loss, :func:`balance_loss`; Fedus et al. take 0.01.
        z_loss: coefficient of the loss that keeps the router's logits small, :func:`router_z_loss`; Zoph et al. take
            0.001.

    >>> layer = SparseFeedForward(8, 16, dropout=0.0, activation="gelu", experts=4, active=1)
    >>> layer(torch.zeros(5, 8)).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        dropout: float,
        activation: Literal["gelu", "relu"],
        experts: int,
        active: int,
        balance: float = 0.01,
        z_loss: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= active <= experts:
            raise ValueError(f"{active} active of {experts} experts")
        self.router = nn.Linear(dim, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(dim, hidden, dropout, activation) for _ in range(experts))
        self.active, self.balance, self.z_loss = active, balance, z_loss

    def forward(self, x: Tensor, notes: Notes | None = None) -> Tensor:
        """``[T, dim]`` to ``[T, dim]``; in training mode the losses and statistics of the routing go to ``notes``."""
        routes = self.route(x)
        if self.training and notes is not None:
            self._note(routes, notes)
        tokens, active = routes.experts.shape
        chosen = routes.experts.flatten()  # slot t * active + j is the j-th choice of token t
        order = torch.argsort(chosen, stable=True)
        sizes = torch.bincount(chosen, minlength=len(self.experts)).tolist()
        sorted_x = x.index_select(0, order if active == 1 else order // active)
        # An expert without tokens still takes part where there are gradients: its parameters then have a gradient of
        # zero and not none, which workers that add up their gradients rely on.
        parts = [
            expert(part)
            for expert, part in zip(self.experts, torch.split(sorted_x, sizes), strict=True)
            if len(part) or torch.is_grad_enabled()
        ]
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        outputs = torch.cat(parts).index_select(0, place).view(tokens, active, x.shape[1])
        if active == 1:
            return outputs.squeeze(1) * routes.gates
        return (outputs * routes.gates.unsqueeze(2)).sum(1)

    def route(self, x: Tensor) -> Routes:
        """The choices of each token of ``x``, ``[T, dim]``."""
        logits = self.router(x).float()  # the softmax wants float32 under mixed precision as well
        probabilities = torch.softmax(logits, dim=1)
        if self.active == 1:
            gates, experts = probabilities.max(dim=1, keepdim=True)
        else:
            gates, experts = probabilities.topk(self.active, dim=1)
            gates = gates / gates.sum(1, keepdim=True)
        return Routes(logits, probabilities, experts, gates)

    def _note(self, routes: Routes, notes: Notes) -> None:
        balance = balance_loss(routes.probabilities, routes.experts)
        penalty = self.balance * balance
        if self.z_loss:
            penalty = penalty + self.z_loss * router_z_loss(routes.logits)
        with torch.no_grad():
            shares = expert_shares(routes.experts, len(self.experts))
            entropy = -torch.xlogy(routes.probabilities, routes.probabilities).sum(1).mean()
            values = torch.stack([shares.max(), shares.min(), entropy, balance]).tolist()  # one wait for a GPU
        names = ("expert_share_max", "expert_share_min", "routing_entropy", "balance_loss")
        notes.add(penalty, dict(zip(names, values, strict=True)))


def expert_shares(experts: Tensor, count: int) -> Tensor:
    """Share ``[count]`` of the choices ``experts`` (int64 ``[T, k]``) that went to each expert; they sum to 1."""
    return torch.bincount(experts.flatten(), minlength=count).float() / max(1, experts.numel())


def balance_loss(probabilities: Tensor, experts: Tensor) -> Tensor:
    r"""How unevenly the experts are used: :math:`E \sum_i f_i P_i`, 1 when even and ``E`` when one expert has all.

    ``f`` is the share of the choices that went to expert i, ``P`` the mean of its probability; the gradient flows
    through ``P`` (Fedus et al. 2022, eq. 4 to 6, without the coefficient; with k choices a token, each counts 1/k).

    Args:
        probabilities: float ``[T, E]``.
        experts: int64 ``[T, k]``.

    >>> even = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    >>> float(balance_loss(even, torch.tensor([[0], [1]])))
    1.0
    """
    count = probabilities.shape[1]
    return count * (expert_shares(experts, count) * probabilities.mean(0)).sum()


def router_z_loss(logits: Tensor) -> Tensor:
    r"""Mean of :math:`(\log \sum_i e^{x_i})^2` over the tokens' logits ``[T, E]`` (ST-MoE, Zoph et al. 2022, eq. 5)."""
    return torch.logsumexp(logits, dim=1).square().mean()
