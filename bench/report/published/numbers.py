"""Numbers from elsewhere: scores and costs that others printed, each with its source; never mixed with measured ones.

`published/results.csv` and `published/costs.csv` were carried over with values and sources as they stood. Columns added
here say what a program needs: `medbench_model`, the registered model that a row is about ("" for models that the suite
lacks, rows that name no variant, and MedMNIST+ below 224 px, where images were padded with zeros; of MedMamba-S and -B
it is not known which of two depths was scored, the rows stand at the release's names); `start`, `imagenet` where the
source says so; `kind`, `linear probe` for a linear classifier on frozen weights, which stands apart from trained
networks, and `self-reported` for runs that others made public without a paper, then with `num_runs` and the sample
standard deviation `sd` over them; `quoted`, of a model's several costs the row that Table 4 prints;
`source_kind` and `doubt`; and `figure_label`, for what the paper's Fig 14 shows and nobody builds here (which
MobileViT, it does not say).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from bench.errors import BenchError, RecordError
from bench.protocols.loading import load_protocol
from bench.report.ablations import FACTORS
from bench.report.tidy import grouped

FOLDER = Path(__file__).parent

# Second readings of a model have no number of their own: they stand beside the one that was printed for its name.
NAMESAKES = {
    "medspectralnet_8m5": "medspectralnet",
    "medmamba_s_paper": "medmamba_s",
    "medmamba_b_paper": "medmamba_b",
}
LINEAR_PROBE = "linear probe"  # a kind of score: of frozen weights, never beside a trained network's
ESTIMATE = "estimate"  # a kind of source: what was estimated is built and counted now, no number beside others


@dataclass(frozen=True)
class PublishedScore:
    """One published score."""

    model: str  # as its source calls it
    variant: str  # which of the source's models of this name
    resolution: int  # px
    dataset: str
    metric: str
    value: float  # a fraction
    source: str
    source_locator: str  # where in the source
    medbench_model: str  # the registered model that it is about, "" for none
    start: str  # `imagenet` where the source says so, else ""
    kind: str = ""  # `linear probe`; `self-reported` where no paper stands behind it; else ""
    num_runs: float = math.nan  # that the value is the mean of, NaN where the row has no spread
    sd: float = math.nan  # sample standard deviation over them

    @property
    def text(self) -> str:
        """`0.863`, or `0.868 ± 0.012` where the spread over runs is known."""
        return f"{self.value:.3f}" if math.isnan(self.sd) else f"{self.value:.3f} ± {self.sd:.3f}"

    @property
    def name(self) -> str:
        """What the row is called in a table: `ResNet-18 (224 px)`, `MedMamba-T (224 px)`."""
        if self.variant in ("paper", "default", str(self.resolution)):
            return f"{self.model} ({self.resolution} px)"
        joint = "-" if len(self.variant) == 1 else ", "
        return f"{self.model}{joint}{self.variant} ({self.resolution} px)"

    @property
    def cited(self) -> str:
        """Source and where in it."""
        return f"{self.source}; {self.source_locator}"


@dataclass(frozen=True)
class PublishedCost:
    """One published count; NaN where a row has only the other one."""

    name: str  # as its source calls the model
    medbench_model: str  # the registered model that it is about, "" for none
    num_params_m: float  # millions of parameters
    gmacs: float  # what the literature prints as "GFLOPs", at `resolution`
    resolution: int  # px
    source: str
    source_kind: str  # `claimed` (by the paper, for its own model), `measured elsewhere` or `published`
    quoted: bool  # whether Table 4 prints this one of its model's rows
    doubt: str  # what speaks against it, "" for nothing
    figure_label: str  # what the paper's Fig 14 calls it where nobody builds it here, else ""


def read_scores(path: Path) -> tuple[PublishedScore, ...]:
    """Published scores from a file, with flags for data sets and the registered model that each is about.

    Raises:
        RecordError: If a value is no fraction: a percentage among fractions would be a wrong number in every table.
    """
    words = {"variant": str, "medbench_model": str, "start": str, "kind": str}
    frame = pd.read_csv(path, dtype={**words, "resolution": int, "value": float, "num_runs": float, "sd": float})
    frame = frame.fillna({"medbench_model": "", "start": "", "kind": ""})
    scores = []
    for row in frame.to_dict("records"):
        lowered = {"dataset": row["dataset"].lower(), "metric": row["metric"].lower()}
        scores.append(PublishedScore(**{str(name): value for name, value in (row | lowered).items()}))
        if not 0 <= scores[-1].value <= 1:
            entry = f"{scores[-1].model} has {scores[-1].value:g}"
            raise RecordError(f"{path.name}: {entry}, which is no fraction; write it in [0, 1]")
    return tuple(scores)


@cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Every published score, in the file's order."""
    return read_scores(FOLDER / "results.csv")


def reference_score(medbench_model: str, dataset: str, metric: str, protocol: str) -> PublishedScore | None:
    """The one published score that is printed beside ours, None if there is none.

    The rule: rows about the model, else about its namesake, a paper's before a self-reported one, no linear probe.
    ResNet-18 has two: MedMNIST v2's, trained from scratch, and under a protocol that starts from ImageNet weights
    MedMNIST+'s, which did too. Synthetic data has no published score, and the ablation of Table 2 has none that a
    source holds.

    Args:
        medbench_model: A registered name.
        dataset: A MedMNIST flag.
        metric: `auc` or `acc`.
        protocol: The protocol of our number; one that is not known here counts as from scratch.
    """
    if protocol in FACTORS:
        return None
    index = _by_cell()
    namesake = NAMESAKES.get(medbench_model, "")
    rows = index.get((medbench_model, dataset, metric)) or index.get((namesake, dataset, metric), [])
    wanted = _from_imagenet(protocol)
    return min(rows, key=lambda row: (row.kind != "", (row.start == "imagenet") != wanted), default=None)


@cache
def _by_cell() -> dict[tuple[str, str, str], list[PublishedScore]]:
    named = [row for row in published_scores() if row.medbench_model and row.kind != LINEAR_PROBE]
    return grouped(named, lambda row: (row.medbench_model, row.dataset, row.metric))


@cache
def _from_imagenet(protocol: str) -> bool:
    try:
        return load_protocol(protocol).init.kind == "imagenet"
    except BenchError:
        return False


@cache
def published_costs() -> tuple[PublishedCost, ...]:
    """Every published count but estimates, in the file's order."""
    words = ["medbench_model", "source_kind", "quoted", "doubt", "figure_label"]
    frame = pd.read_csv(FOLDER / "costs.csv", dtype=dict.fromkeys(words, str)).fillna(dict.fromkeys(words, ""))
    frame = frame.rename(columns={"model": "name", "params_m": "num_params_m", "gflops": "gmacs"})
    frame = frame.astype({"num_params_m": float, "gmacs": float, "resolution": int})
    rows = frame.assign(quoted=frame["quoted"] == "yes").to_dict("records")
    costs = [PublishedCost(**{str(name): value for name, value in row.items()}) for row in rows]
    return tuple(cost for cost in costs if cost.source_kind != ESTIMATE)


@cache
def quoted_cost(medbench_model: str) -> PublishedCost | None:
    """The one published row that Table 4 prints beside a model's counts, None if there is none.

    A second reading of a model stands beside what was printed for its name.
    """
    rows = {cost.medbench_model: cost for cost in published_costs() if cost.quoted}
    return rows.get(medbench_model) or rows.get(NAMESAKES.get(medbench_model, ""))
