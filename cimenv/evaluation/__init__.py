"""Floor 3: the Monte-Carlo engine, feature errors, metrics, statistics, the worst case, the evaluation record."""

from cimenv.evaluation.engine import Engine, Tally
from cimenv.evaluation.intervals import normalised_accuracy, percentile_interval
from cimenv.evaluation.metrics import METRICS, Metric
from cimenv.evaluation.prefix import PrefixCache
from cimenv.evaluation.record import ERROR_COLUMNS, Damage, Evaluation
from cimenv.evaluation.segments import SegmentedNetwork
from cimenv.evaluation.statistics import STATISTICS, Statistic
from cimenv.evaluation.worst_case import AttackTarget, WorstCase, WorstCaseSearch, worst_case

__all__ = [
    "ERROR_COLUMNS",
    "METRICS",
    "STATISTICS",
    "AttackTarget",
    "Damage",
    "Engine",
    "Evaluation",
    "Metric",
    "PrefixCache",
    "SegmentedNetwork",
    "Statistic",
    "Tally",
    "WorstCase",
    "WorstCaseSearch",
    "normalised_accuracy",
    "percentile_interval",
    "worst_case",
]
