"""What the records say of rare classes and few images, in sentences: MedSpectralNet, its trunk, the best other."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.records.own_models import is_fitted
from bench.report.ablations import REMOVAL
from bench.report.draws.scores import CHOSEN, PLAIN, WHOLE_SPLIT, Track
from bench.report.formats import signed
from bench.report.published.names import dataset_name, model_name, name_in_sentence
from bench.report.tables.score_cells import interval_text

OURS, TRUNK = REMOVAL.whole, REMOVAL.trunk
VERDICTS = {"higher": "higher", "lower": "lower", "not separated": "not separated"}


def sentences(draws: pd.DataFrame, pairs: pd.DataFrame, track: Track) -> list[str]:
    """One a data set, level and arm with records of two draws or more, the whole split left out; in the tables' order.

    Args:
        draws: `draws.csv`.
        pairs: `draw_pairs.csv`.
        track: Which of the two.
    """
    groups = _decided(draws, track).groupby(["dataset", "level", "arm"], sort=False)
    return [f"{_where(cells, track)}: {_of_cell(cells, pairs, track)}" for _, cells in groups]


def _decided(draws: pd.DataFrame, track: Track) -> pd.DataFrame:
    """AUC of the cells that a sentence may rest on."""
    own = draws[(draws["track"] == track) & (draws["weights"] == CHOSEN) & (draws["metric"] == "auc")]
    thinned = own["level"].astype(str) != WHOLE_SPLIT[track]
    return own[thinned & own["decidable"].astype(bool) & (own["n_draws"] > 1)]


def has_network(draws: pd.DataFrame, track: Track) -> bool:
    """Whether one of these cells is a network's."""
    return not all(map(is_fitted, _decided(draws, track)["model"]))


def undecidable(draws: pd.DataFrame, track: Track) -> str:
    """Levels that the plan lets nothing be said of: `BreastMNIST at 1 % (positives: 4)`; "" without one."""
    rows = draws[(draws["track"] == track) & ~draws["decidable"].astype(bool)].drop_duplicates(["dataset", "level"])
    return ", ".join(
        f"{dataset_name(row['dataset'])} at {row['level']} (positives: {row['positives']})"
        for _, row in rows.iterrows()
    )


def _where(cells: pd.DataFrame, track: Track) -> str:
    first = cells.iloc[0]
    if track == "efficiency":
        return f"{dataset_name(first['dataset'])}, {first['level']} images of each class"
    arm = "" if first["arm"] == PLAIN else f", {first['arm']}"
    return f"{dataset_name(first['dataset'])} at {first['level']} (positives: {first['positives']}){arm}"


def _of_cell(cells: pd.DataFrame, pairs: pd.DataFrame, track: Track) -> str:
    first = cells.iloc[0]
    ranked = cells.sort_values("mean", ascending=False)
    scores = "; ".join(f"{name_in_sentence(row['model'])} {_score(row)}" for _, row in ranked.iterrows())
    level = pairs["level"].astype(str) == str(first["level"])
    at = (pairs["track"] == track) & (pairs["dataset"] == first["dataset"]) & level & (pairs["arm"] == first["arm"])
    compared = " ".join(_compared(pairs[at & pairs["verdict"].isin(VERDICTS)]))
    return f"AUC {scores}.{' ' if compared else ''}{compared}"


def _score(row: pd.Series) -> str:
    return f"{row['mean']:.3f} ({interval_text(row['ci_low'], row['ci_high'])})"


def _compared(pairs: pd.DataFrame) -> Iterator[str]:
    """MedSpectralNet less its trunk, and less the best of the others where that is another."""
    for row in (row for _, row in pairs.iterrows() if row["baseline"] == TRUNK or row["is_best"]):
        which = "its trunk" if row["baseline"] == TRUNK else "the best other"
        both = " and the best other" if row["baseline"] == TRUNK and row["is_best"] else ""
        interval = f"{signed(row['difference'])} ({signed(row['ci_low'])} to {signed(row['ci_high'])})"
        baseline = name_in_sentence(row["baseline"])
        yield f"{model_name(OURS)} minus {which}{both}, {baseline}: {interval}, {VERDICTS[row['verdict']]}."
