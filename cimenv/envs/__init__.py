"""Floor 6: the Gymnasium environments."""

from cimenv.envs.budget import EvaluationBudget
from cimenv.envs.compensation import CompensationEnv
from cimenv.envs.fork import fork
from cimenv.envs.tabular import CompensationTabularEnv
from cimenv.envs.tabular_vector import TabularVectorEnv
from cimenv.envs.walk import CompensationWalkEnv

__all__ = [
    "CompensationEnv",
    "CompensationTabularEnv",
    "CompensationWalkEnv",
    "EvaluationBudget",
    "TabularVectorEnv",
    "fork",
]
