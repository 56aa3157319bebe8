"""CiMCompensationWalk-v0."""

from __future__ import annotations

from cimenv.envs.actions import SiteBySite
from cimenv.envs.base import PlacementEnv


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

    meaning = SiteBySite
