"""Numbers from elsewhere: scores and costs that others printed, each with its source; never mixed with measured ones.

`published/results.csv` and `published/costs.csv` were carried over with values and sources as they stood. Columns added
here say what a program needs: `medbench_model`, the registered model that a row is about ("" for models that the suite
lacks, rows that name no variant, and MedMNIST+ below 224 px, where images were padded with zeros; of MedMamba-S and -B
it is not known which of two depths was scored, the rows stand at the release's names); `start`, `imagenet` where the
source says so; `quoted`, of a model's several costs the row that Table 4 prints; `source_kind` and `doubt`; and
`figure_label`, for what the paper's Fig 14 shows and nobody builds here (which MobileViT, it does not say).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from bench.errors import BenchError, RecordError
from bench.protocols.loading import load_protocol
from bench.report.ablations import FACTORS

FOLDER = Path(__file__).parent
SCORE_COLUMNS = [
    *("model", "variant", "resolution", "dataset", "metric"),
    *("value", "source", "source_locator", "medbench_model", "start"),
]
COST_COLUMNS = [
    *("name", "medbench_model", "num_params_m", "gmacs", "resolution", "source", "source_kind"),
    *("quoted", "doubt", "figure_label"),
]

# Second readings of a model have no number of their own: they stand beside the one that was printed for its name.
NAMESAKES = {
    "medspectralnet_8m5": "medspectralnet",
    "medmamba_s_paper": "medmamba_s",
    "medmamba_b_paper": "medmamba_b",
}
ESTIMATE = "estimate"  # a kind of source: what was estimated is built and counted now, no number beside others


@dataclass(frozen=True)
class Reference:
    """One published score: a fraction, under which name, at which size in pixels, from where."""

    name: str
    resolution: int
    value: float
    source: str
    source_locator: str
    pretrained: bool


@dataclass(frozen=True)
class Quoted:
    """One published count: millions of parameters and GMACs, NaN where it has none."""

    name: str
    num_params_m: float
    gmacs: float
    resolution: int
    source: str
    source_kind: str
    doubt: str


@cache
def _scores() -> pd.DataFrame:
    return read_scores(FOLDER / "results.csv")


def read_scores(path: Path) -> pd.DataFrame:
    """Published scores from a file, with flags for data sets and the registered model that each is about.

    Raises:
        RecordError: If a value is no fraction: a percentage among fractions would be a wrong number in every table.
    """
    words = {"variant": str, "medbench_model": str, "start": str}
    frame = pd.read_csv(path, dtype={**words, "resolution": int, "value": float})
    wrong = frame[~frame["value"].between(0, 1)]
    if len(wrong):
        row = wrong.iloc[0]
        raise RecordError(f"{path.name}: {row['model']} has {row['value']:g}, which is no fraction; write it in [0, 1]")
    return frame.assign(
        dataset=frame["dataset"].str.lower(),
        metric=frame["metric"].str.lower(),
        medbench_model=frame["medbench_model"].fillna(""),
        start=frame["start"].fillna(""),
    )[SCORE_COLUMNS]


def published_scores() -> pd.DataFrame:
    """Every published score: a row a model, variant, resolution (px), data set and metric; values are fractions."""
    return _scores().copy()


def score_name(model: str, variant: str, resolution: int) -> str:
    """`ResNet-18 (224 px)`, `MedMamba-T (224 px)`: what a published row is called in a table."""
    if variant in ("paper", "default", str(resolution)):
        return f"{model} ({resolution} px)"
    joint = "-" if len(variant) == 1 else ", "
    return f"{model}{joint}{variant} ({resolution} px)"


def reference_score(medbench_model: str, dataset: str, metric: str, protocol: str) -> Reference | None:
    """The one published score that is printed beside ours, None if there is none.

    The rule: rows about the model, else about its namesake. ResNet-18 has two: MedMNIST v2's, trained from scratch,
    and under a protocol that starts from ImageNet weights MedMNIST+'s, which did too. Data made here has no
    published score, and the ablation of Table 2 has none that a source holds.

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
    return min(rows, key=lambda row: row.pretrained != wanted, default=None)


@cache
def _by_cell() -> dict[tuple[str, str, str], list[Reference]]:
    index: dict[tuple[str, str, str], list[Reference]] = {}
    for model, variant, px, dataset, metric, value, source, locator, ours, start in _scores().itertuples(index=False):
        if ours:
            row = Reference(score_name(model, variant, px), px, value, source, locator, start == "imagenet")
            index.setdefault((ours, dataset, metric), []).append(row)
    return index


@cache
def _from_imagenet(protocol: str) -> bool:
    try:
        return load_protocol(protocol).init.kind == "imagenet"
    except BenchError:
        return False


@cache
def _costs() -> pd.DataFrame:
    words = ["medbench_model", "source_kind", "quoted", "doubt", "figure_label"]
    frame = pd.read_csv(FOLDER / "costs.csv", dtype=dict.fromkeys(words, str)).fillna(dict.fromkeys(words, ""))
    frame = frame[frame["source_kind"] != ESTIMATE].reset_index(drop=True)
    columns = {"model": "name", "params_m": "num_params_m", "gflops": "gmacs"}
    frame = frame.rename(columns=columns).astype({"num_params_m": float, "gmacs": float, "resolution": int})
    return frame.assign(quoted=frame["quoted"] == "yes")[COST_COLUMNS]


def published_costs() -> pd.DataFrame:
    """Every published count: parameters in millions, GMACs (the literature's "GFLOPs"), NaN where a row has none.

    `source_kind` is `claimed` (by the paper, for its own model), `measured elsewhere`, or `published`.
    """
    return _costs().copy()


@cache
def quoted_cost(medbench_model: str) -> Quoted | None:
    """The one published row that Table 4 prints beside a model's counts, None if there is none.

    A second reading of a model stands beside what was printed for its name.
    """
    frame = _costs()
    rows = {row["medbench_model"]: row for row in frame[frame["quoted"]].to_dict("records")}
    row = rows.get(medbench_model) or rows.get(NAMESAKES.get(medbench_model, ""))
    if row is None:
        return None
    counts = (row["num_params_m"], row["gmacs"], row["resolution"])
    return Quoted(row["name"], *counts, row["source"], row["source_kind"], row["doubt"])
