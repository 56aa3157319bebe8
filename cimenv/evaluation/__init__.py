"""Floor 3: the Monte-Carlo engine, feature errors, metrics with intervals, the evaluation record."""

from cimenv.evaluation.engine import Engine, Tally
from cimenv.evaluation.metrics import METRICS, normalised_accuracy, percentile_interval
from cimenv.evaluation.prefix import PrefixCache
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.evaluation.segments import SegmentedNetwork

__all__ = [
    "ERROR_COLUMNS",
    "METRICS",
    "Engine",
    "Evaluation",
    "PrefixCache",
    "SegmentedNetwork",
    "Tally",
    "normalised_accuracy",
    "percentile_interval",
]
