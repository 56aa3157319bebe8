"""The search for the worst deviation |dW| <= th_g * S of a network's weights, and a certificate against it.

Sources: Yan et al. (ICCAD 2022), A-TRICE (TCAD 2024, arXiv 2312.06137).
"""

from cimenv.evaluation.worst_case.certificate import certified_correct
from cimenv.evaluation.worst_case.ensemble import WorstCase, WorstCaseSearch, worst_case
from cimenv.evaluation.worst_case.losses import LOSSES, LossName
from cimenv.evaluation.worst_case.search import Point
from cimenv.evaluation.worst_case.target import AttackTarget, Deviation

__all__ = [
    "LOSSES",
    "AttackTarget",
    "Deviation",
    "LossName",
    "Point",
    "WorstCase",
    "WorstCaseSearch",
    "certified_correct",
    "worst_case",
]
