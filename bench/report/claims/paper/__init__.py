"""What the paper says: one function a claim, by subject, its docstring the quote; and the claims nothing can test.

Two words recur. "Significantly" and "substantially" are read as at least 10 %, "near-perfect" as at least 0.95 (95 %):
both are chosen here, on the lenient side, because the paper states no bound.

A printed GFLOP is matched by thop's count, the paper's tool; whether a model needs less than MedMamba is judged by
aten, which counts the scan and the products that thop leaves out. A score of our own runs agrees with a printed one
within the analysis plan's margin, for no second training gives the same three digits, and by its interval: so does one
printed accuracy with another, unless the claim is a subtraction. Everything else must round to the printed digits.
"""

from bench.report.claims.paper import (
    baselines,
    confusions,
    costs,
    datasets,
    design,
    scores,
    sizes,
    timing,
    training,
)
from bench.report.claims.paper.untestable import REASONS
from bench.report.claims.registry import CHECKS

SUBJECTS = (baselines, confusions, costs, datasets, design, scores, sizes, timing, training)

__all__ = ["CHECKS", "REASONS", "SUBJECTS"]
