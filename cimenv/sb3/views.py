"""What a policy thinks of every first action: probabilities, or Q-values of a DQN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.policies import BasePolicy

from cimenv.sb3.rollout import is_maskable

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ActionView:
    """One number for every action, in the empty placement.

    Attributes:
        kind: `policy` for probabilities, `q` for Q-values.
        values: `[actions]`; action 0 is stop (Walk: none).
    """

    kind: str
    values: Floats

    @property
    def what(self) -> str:
        """Return the name of the numbers."""
        return "probability" if self.kind == "policy" else "Q-value"

    @property
    def greedy(self) -> int:
        """Return the favourite action."""
        return int(self.values.argmax())


def action_view(policy: BasePolicy, observation: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> ActionView | None:
    """Return a policy's view of the actions, or None where it has neither probabilities nor Q-values.

    Args:
        policy: of any algorithm.
        observation: `[1, size]`.
        mask: `[1, actions]`, used by maskable policies only.
    """
    chosen: Any = policy
    tensor, _ = policy.obs_to_tensor(observation)
    with torch.no_grad():
        if hasattr(policy, "q_net"):
            return ActionView("q", _numbers(chosen.q_net(tensor)))
        if not hasattr(policy, "get_distribution"):
            return None
        masked = {"action_masks": mask} if is_maskable(policy) else {}
        return ActionView("policy", _numbers(chosen.get_distribution(tensor, **masked).distribution.probs))


def _numbers(values: torch.Tensor) -> Floats:
    return np.asarray(values[0].cpu().numpy(), dtype=np.float64)
