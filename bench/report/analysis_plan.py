"""What `results/ANALYSIS_PLAN.md` fixes, as the code reads it; a test holds the two together."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench.data.names import PAPER_DATASETS
from bench.records.names import SYNTHETIC_PREFIX
from bench.records.own_models import is_fitted, own_spec
from bench.report.ablations import REMOVAL
from bench.stats.comparisons import EQUIVALENCE_MARGIN

OURS = "medspectralnet"
PARTS = REMOVAL.without  # variant -> what it lacks: exploratory, in a table of their own
MARGIN = EQUIVALENCE_MARGIN  # re-runs are judged by the same one
REFERENCE = 0.9  # score around which a test set's resolution is given
INTRACLASS = 0.05  # assumed between slices of a scan, for the design-effect rows alone
TWIN_THRESHOLDS = (0.999, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95)  # pixel correlations of the twins' curve
NUM_TEST_SCANS = {"organcmnist": 70, "organsmnist": 70}  # about; MedMNIST publishes no scan ids

FITTED = ("floor/prior", "floor/knn1", "sklearn/logistic", "sklearn/hist_gradient_boosting")
TABLE_3 = ("resnet18", "resnet50", "medvit_t", "swin_t", "convnext_t", "medmamba_t")
LIGHT = (
    "mobilevitv2_100",
    "nest_t",
    "mobilenetv4_s",
    "fastvit_t8",
    "edgenext_s",
    "efficientformerv2_s0",
    "mambaout_t",
)
# Protocol -> baselines that MedSpectralNet is compared with. On each data set those that are fitted are one family, the
# networks another.
FAMILIES = {
    "lite-96": (*FITTED, *TABLE_3, *LIGHT),
    "paper-224-scratch": (*FITTED, *TABLE_3),
    "paper-224-imagenet": (*FITTED, *TABLE_3),
}
DEMO_BASELINES = ("floor/prior", "floor/knn1", *TABLE_3)  # the demo's, for runs on synthetic data


def baselines(protocol: str, *, synthetic: bool) -> tuple[str, ...]:
    """The primary baselines of a protocol; runs on synthetic data have a family everywhere, and prove nothing."""
    return FAMILIES.get(protocol, DEMO_BASELINES if synthetic else ())


def family_size(protocol: str, *, fitted: bool, synthetic: bool) -> int:
    """How many primary comparisons are planned on a data set under a protocol, made or not.

    Args:
        protocol: Its name.
        fitted: With the baselines that are fitted, or with the networks.
        synthetic: On synthetic data.
    """
    return sum(is_fitted(baseline) == fitted for baseline in baselines(protocol, synthetic=synthetic))


def is_primary(protocol: str, dataset: str, model: str, baseline: str) -> bool:
    """Whether the AUC difference of two models on the official test belongs to the primary family."""
    synthetic = dataset.startswith(SYNTHETIC_PREFIX)
    of_the_six = dataset.removeprefix(SYNTHETIC_PREFIX) in PAPER_DATASETS
    return model == OURS and of_the_six and baseline in baselines(protocol, synthetic=synthetic)


def best_baseline(candidates: Iterable[tuple[str, float, int]]) -> str:
    """The network with the highest mean among those that are not MedSpectralNet's, "" where there is none.

    One of a single seed never leads, unless none has more.

    Args:
        candidates: Model, mean over its seeds, and how many those are.
    """
    known = [
        (seeds > 1, mean, model)
        for model, mean, seeds in candidates
        if not (is_fitted(model) or is_ours(model) or math.isnan(mean))
    ]
    return max(known)[2] if known else ""


def is_ours(model: str) -> bool:
    """Whether a model is MedSpectralNet, or a variant that stands in its file."""
    spec, ours = own_spec(model), own_spec(OURS)
    return spec is not None and ours is not None and spec.file == ours.file


def comparison_order(model: str) -> tuple[bool, bool, bool, str]:
    """MedSpectralNet, its variants, other networks, what is fitted: of a pair, the earlier is `model`."""
    return is_fitted(model), model != OURS, not is_ours(model), model
