"""CiMCompensationWalk-v0."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.envs.base import MASK_TYPE, Ends, PlacementEnv


class CompensationWalkEnv(PlacementEnv):
    """Decide on one site after the other, in call order.

    ## Description
    The problem of `CiMCompensation-v0` as a walk through the network: at each site the agent chooses an option or none.

    ## Action Space
    `Discrete(options + 1)`: 0 places nothing at the current site, `o` places option o. An unaffordable choice places
    nothing, without a penalty (with `invalid_action="raise"` it raises); `info["action_mask"]` and `action_masks()` say
    what is affordable.

    ## Observation Space
    As in `CiMCompensation-v0`; the current site is marked.

    ## Rewards
    As in `CiMCompensation-v0`, without penalties for invalid actions.

    ## Starting State
    No block, at the first site.

    ## Episode End
    Terminated after the last site, or by the step limit.

    ## Information
    As in `CiMCompensation-v0`.

    ## Arguments
    As in `CiMCompensation-v0`; `max_steps` defaults to the number of sites.

    ## Version History
    * v0: first version.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.action_space = gym.spaces.Discrete(1 + self.layout.options)

    def action_names(self) -> list[tuple[str, str]]:
        """Return (site, option) of every action but "none" at the first site."""
        return [(self._site_names()[0], option) for option in self._option_names(0)]

    def _default_steps(self, sites: int) -> int:
        return sites

    def _current(self) -> int | None:
        return self.steps

    def _nothing_left(self) -> bool:
        return self.steps >= len(self.placement)

    def _penalised(self, invalid: bool) -> bool:
        del invalid
        return False

    def _placed(self, action: int) -> Placement:
        return (*self.placement[: self.steps], action, *self.placement[self.steps + 1 :])

    def reachable(self, goals: Ends, steps: int) -> npt.NDArray[np.bool_]:
        """Return which placements agree with what is decided, and place nothing beyond the step limit."""
        decided = (goals[:, :steps] == np.array(self.placement)[:steps]).all(axis=1)
        return np.asarray(decided & (goals[:, max(steps, self.max_steps) :] == 0).all(axis=1))

    def leading_to(self, goals: Ends) -> npt.NDArray[np.bool_]:
        """Return the options that one of the placements has at the current site."""
        found = np.zeros(1 + self.layout.options, dtype=bool)
        found[goals[self.reachable(goals, self.steps), self.steps]] = True
        return found

    def _mask(self) -> npt.NDArray[np.int8]:
        mask = np.zeros(1 + self.layout.options, dtype=MASK_TYPE)
        mask[0] = 1
        if not self._ended and self.steps < len(self.placement):
            allowed = self._affordable()[self.steps]
            mask[: len(allowed)] = allowed
        return mask
