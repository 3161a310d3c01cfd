"""What the records say of rare classes and few images, in sentences: MedSpectralNet, its trunk, the best other."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.plan.selection import expand_study
from bench.protocols.loading import family_of
from bench.records.own_models import is_fitted
from bench.report.ablations import REMOVAL
from bench.report.draws.scores import CHOSEN, PLAIN, WHOLE_SPLIT, Track
from bench.report.formats import signed
from bench.report.published.names import dataset_name, model_name, name_in_sentence
from bench.report.tables.score_cells import interval_text, p_text, signed_interval

OURS, TRUNK = REMOVAL.whole, REMOVAL.trunk
VERDICTS = ("higher", "lower", "not separated")
KEYS = ["dataset", "level", "arm"]


def sentences(draws: pd.DataFrame, pairs: pd.DataFrame, track: Track) -> list[str]:
    """One a data set, level and arm with records of two draws or more, the whole split left out; in the tables' order.

    Args:
        draws: `draws.csv`.
        pairs: `draw_pairs.csv`.
        track: Which of the two.
    """
    chosen = _chosen(draws, track)
    groups = chosen[chosen["n_draws"] > 1].groupby(KEYS, sort=False)
    single = {key: list(own["model"]) for key, own in chosen[chosen["n_draws"] == 1].groupby(KEYS, sort=False)}
    planned = len({run.seed for run in expand_study(track) if family_of(run.protocol)})
    texts = []
    for key, cells in groups:
        dataset, level, arm = key
        parts = [f"AUC {_scores(cells, planned)}."]
        if key in single:
            parts.append(f"One draw, nothing said of it: {', '.join(map(name_in_sentence, single[key]))}.")
        at = (pairs["track"] == track) & (pairs["dataset"] == dataset) & (pairs["arm"] == arm)
        at &= pairs["level"].astype(str) == str(level)
        parts += _compared(pairs[at & pairs["verdict"].isin(VERDICTS)], planned)
        texts.append(f"{_where(cells, track)}: {' '.join(parts)}")
    return texts


def _chosen(draws: pd.DataFrame, track: Track) -> pd.DataFrame:
    """AUC of the cells of thinned levels that the plan lets something be said of."""
    own = draws[(draws["track"] == track) & (draws["weights"] == CHOSEN) & (draws["metric"] == "auc")]
    return own[(own["level"].astype(str) != WHOLE_SPLIT[track]) & own["decidable"].astype(bool)]


def has_network(draws: pd.DataFrame, track: Track) -> bool:
    """Whether one of these cells is a network's."""
    chosen = _chosen(draws, track)
    return not all(map(is_fitted, chosen[chosen["n_draws"] > 1]["model"]))


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


def _scores(cells: pd.DataFrame, planned: int) -> str:
    """Each model's mean, best first; how many draws it has where some are missing."""
    ranked = cells.sort_values("mean", ascending=False)
    return "; ".join(f"{name_in_sentence(row['model'])} {_score(row, planned)}" for _, row in ranked.iterrows())


def _score(row: pd.Series, planned: int) -> str:
    number = "" if row["n_draws"] >= planned else f", {row['n_draws']} of {planned} draws"
    return f"{row['mean']:.3f} ({interval_text(row['ci_low'], row['ci_high'])}{number})"


def _compared(pairs: pd.DataFrame, planned: int) -> Iterator[str]:
    """MedSpectralNet less its trunk, and less the best of the others where that is another."""
    for row in (row for _, row in pairs.iterrows() if row["baseline"] == TRUNK or row["is_best"]):
        which = "its trunk" if row["baseline"] == TRUNK else "the best other"
        both = " and the best other" if row["baseline"] == TRUNK and row["is_best"] else ""
        number = "" if row["n_draws"] >= planned else f" over {row['n_draws']} common draws"
        interval = f"{signed(row['difference'])}{number} ({signed_interval(row['ci_low'], row['ci_high'])})"
        baseline = name_in_sentence(row["baseline"])
        told = row["verdict"] if row["verdict"] == "not separated" else f"{row['verdict']} (p {p_text(row['p'])})"
        yield f"{model_name(OURS)} minus {which}{both}, {baseline}: {interval}, {told}."
