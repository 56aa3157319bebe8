"""Floor 7: what Stable-Baselines3 needs; installed with the extra `[agents]`."""

from cimenv.core.errors import DependencyError

try:
    import stable_baselines3  # noqa: F401
except ImportError as error:  # pragma: no cover - depends on the installation
    raise DependencyError(
        "cimenv.sb3 needs Stable-Baselines3; install it with: pip install 'cimenv[agents]'."
    ) from error

from cimenv.sb3.callbacks import PlacementCallback
from cimenv.sb3.mixed import MixedVecEnv
from cimenv.sb3.rollout import deterministic_rollout, placement_of
from cimenv.sb3.tabular import TabularVecEnv
from cimenv.sb3.tokens import SitePolicy

__all__ = ["MixedVecEnv", "PlacementCallback", "SitePolicy", "TabularVecEnv", "deterministic_rollout", "placement_of"]
