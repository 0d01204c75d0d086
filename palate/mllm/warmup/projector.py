"""A projector that trains on standardised inputs, and is saved as one that needs no standardising."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

# Channels that hardly ever move would be blown up into noise: their spread is taken to be this share of the mean one.
_FLOOR = 0.1


class Standardised(nn.Module):
    """A LLaVA projector behind ``(x - mean) / spread``, channel by channel.

    Channels of a tower have very different scales and are never negative; standardised, the first layer learns many
    times faster. The standardising is linear, so :meth:`folded` puts it into that layer's weights.

    Args:
        projector: with ``linear_1``, ``act``, ``linear_2``; a float32 copy of it is trained.
        features: what it will see, ``[items, places, width]``.
    """

    def __init__(self, projector: Any, features: Tensor) -> None:
        super().__init__()
        self.inner = deepcopy(projector).float()
        device = self.inner.linear_1.weight.device
        flat = features.float().flatten(0, 1)
        spread = flat.std(0)
        mean: Tensor = flat.mean(0)
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", mean.to(device))
        self.register_buffer("spread", spread.clamp(min=float(_FLOOR * spread.mean()) or 1.0).to(device))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., places, width]`` -> ``[..., places, dim]``."""
        out: Tensor = self.inner((features - self.mean) / self.spread)
        return out

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights as they are now."""
        return {name: value.clone() for name, value in self.state_dict().items()}

    def folded(self) -> Any:
        """The same function as a plain projector."""
        plain = deepcopy(self.inner)
        with torch.no_grad():
            plain.linear_1.weight.div_(self.spread)
            plain.linear_1.bias.sub_(plain.linear_1.weight @ self.mean)
        return plain
