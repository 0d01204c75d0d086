"""A sparse mixture of experts in the place of a block's feed-forward layer (Fedus et al. 2022; Zoph et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from palate.rankers.auxiliary import AuxiliaryLosses
from palate.rankers.layers import ByteDropout

# Up to this many tokens (a history or two), multiplying all experts is faster than sorting the tokens.
_FEW = 32


@dataclass(frozen=True)
class Routes:
    """Which experts each of ``T`` tokens goes to, ``k`` of ``E``.

    Attributes:
        logits: float32 (or 64) ``[T, E]``, the router's outputs.
        probabilities: the same type, ``[T, E]``, its softmax.
        experts: int64 ``[T, k]``, the chosen experts, the likeliest first.
        gates: float ``[T, k]``, of the tokens' type: what each chosen expert's output is multiplied by.
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
        self.count, self.active, self.balance, self.z_loss = experts, active, balance, z_loss
        self.router = nn.Parameter(torch.empty(experts, dim))
        # The experts' weights follow one another, so that they can be read as one matrix too; biases are flat,
        # because the trainer's weight decay is for what has two dimensions or more.
        self.up = nn.Parameter(torch.empty(experts, hidden, dim))
        self.up_bias = nn.Parameter(torch.zeros(experts * hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, dim))
        self.down_bias = nn.Parameter(torch.zeros(experts * dim))
        for weight in (self.router, self.up, self.down):
            nn.init.normal_(weight, std=0.02)  # as every linear layer of the encoder
        self.activation = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.dropout = ByteDropout(dropout)

    def forward(self, x: Tensor, aux: AuxiliaryLosses | None = None) -> Tensor:
        """``[T, dim]`` to ``[T, dim]``; in training mode the losses and statistics of the routing go to ``aux``."""
        routes = self.route(x)
        if self.training and aux is not None:
            self._note(routes, aux)
        few = len(x) <= _FEW and not torch.is_grad_enabled() and x.device.type == "cpu"
        return self.all_experts(x, routes) if few else self._sorted(x, routes)

    def _sorted(self, x: Tensor, routes: Routes) -> Tensor:
        """Each expert on its own tokens, which sorting brings together."""
        tokens, active = routes.experts.shape
        chosen = routes.experts.flatten()  # slot t * active + j is the j-th choice of token t
        order = torch.argsort(chosen, stable=True)
        sizes = torch.bincount(chosen, minlength=self.count).tolist()
        parts = torch.split(x.index_select(0, order if active == 1 else order // active), sizes)
        up_bias, down_bias = self.up_bias.view(self.count, -1), self.down_bias.view(self.count, -1)
        # Taking the experts apart by unbind gives those without tokens a gradient of zero and not none, which workers
        # that add up their gradients rely on.
        experts = zip(parts, self.up.unbind(), up_bias.unbind(), self.down.unbind(), down_bias.unbind(), strict=True)
        results = [
            torch.addmm(second_bias, self.dropout(self.activation(linear(part, first, first_bias))), second)
            for part, first, first_bias, second, second_bias in experts
            if len(part)
        ]
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        outputs = torch.cat(results).index_select(0, place)
        if active == 1:
            return outputs * routes.gates
        return (outputs.view(tokens, active, -1) * routes.gates.unsqueeze(2)).sum(1)

    def all_experts(self, x: Tensor, routes: Routes) -> Tensor:
        """The same sums with every expert on every token: for a few tokens that costs less than sorting them."""
        gates = x.new_zeros(x.shape[0], self.count).scatter_(1, routes.experts, routes.gates)  # [T, E]
        hidden = self.activation(linear(x, self.up.flatten(0, 1), self.up_bias)).view(x.shape[0], self.count, -1)
        hidden = self.dropout(hidden) * gates.unsqueeze(2)
        bias = gates @ self.down_bias.view(self.count, -1)
        return torch.addmm(bias, hidden.flatten(1), self.down.flatten(0, 1))

    def route(self, x: Tensor) -> Routes:
        """The choices of each token of ``x``, ``[T, dim]``."""
        # One row an expert: a softmax over columns of four is many times faster than one over rows of four. Half
        # precision is too coarse for it.
        logits = self.router @ x.T
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        probabilities = torch.softmax(logits, dim=0).T
        if self.active == 1:
            gates, experts = probabilities.max(dim=1, keepdim=True)
        else:
            gates, experts = probabilities.topk(self.active, dim=1)
            gates = gates / gates.sum(1, keepdim=True)
        return Routes(logits.T, probabilities, experts, gates.to(x.dtype))

    def _note(self, routes: Routes, aux: AuxiliaryLosses) -> None:
        balance = balance_loss(routes.probabilities, routes.experts)
        penalty = self.balance * balance
        if self.z_loss:
            penalty = penalty + self.z_loss * router_z_loss(routes.logits)
        with torch.no_grad():
            shares = expert_shares(routes.experts, self.count)
            entropy = -torch.xlogy(routes.probabilities, routes.probabilities).sum(1).mean()
            values = torch.stack([shares.max(), shares.min(), entropy, balance]).tolist()  # one wait for a GPU
        names = ("expert_share_max", "expert_share_min", "routing_entropy", "balance_loss")
        aux.add(penalty, dict(zip(names, values, strict=True)))


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
