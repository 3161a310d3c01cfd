"""What the records say about the headline claims, in words: `docs/findings.md` from the tidy tables.

The sentences stand in `templates/findings.md.jinja`, every number and every list of models in them is looked up here. A
sentence that draws a conclusion is shown only while its premise holds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records.timing_summary import MIN_BLOCKS
from bench.report.analysis.contrasts import gain_of_imagenet, start_verdict
from bench.report.analysis_plan import best_baseline
from bench.report.draws.findings import VERDICTS, has_network, sentences, undecidable
from bench.report.draws.scores import Track
from bench.report.formats import NOTHING, signed
from bench.report.published.names import model_name, name_in_sentence
from bench.report.published.numbers import reference_score
from bench.report.rendering import template
from bench.report.robustness.compare import planned_runs, without_score
from bench.report.tables.score_cells import difference_text, exploratory_text, interval_text, p_text, value_text
from bench.stats.intervals import IMAGES, LEVEL
from bench.stats.probabilities import LOSSES

BEGIN = "<!-- written by medbench report from results/tables/ and reports/claims.csv: edit its template instead -->"
TABLES = (  # what the page is made of
    *("calibration.csv", "calibration_pairs.csv", "cells.csv", "contrasts.csv", "costs.csv", "draw_pairs.csv"),
    *("draws.csv", "pairs.csv", "robustness.csv", "robustness_pairs.csv", "timings.csv"),
)
DATASET = "breastmnist"
TWIN_FREE = "test_twin_free"
IMG_SIZE, NUM_CLASSES, BATCH_SIZE = 224, 8, 32


@dataclass(frozen=True)
class Facts:
    """What the template may use; text says `–` where no record gives the number.

    Attributes:
        tables: Tidy tables by name, and `claims`.
        min_blocks: Of a timing whose interval is one of 95 %.
    """

    tables: Mapping[str, pd.DataFrame]
    min_blocks: int = MIN_BLOCKS

    def row(self, table: str, **keys: Any) -> pd.Series | None:
        """The only row with these values, None where there is none."""
        frame = self.tables[table]
        for column, value in keys.items():
            frame = frame[frame[column] == value]
        return None if frame.empty else frame.iloc[0]

    def cell(
        self, protocol: str, model: str, metric: str, part: str = "test", dataset: str = DATASET
    ) -> pd.Series | None:
        """A model's row of `cells`."""
        return self.row("cells", dataset=dataset, protocol=protocol, model=model, metric=metric, part=part)

    def value(self, *cell: str) -> str:
        """`0.863 ± 0.012`."""
        row = self.cell(*cell)
        return NOTHING if row is None else value_text(row["mean"], row["sd"])

    def mean(self, protocol: str, model: str, metric: str, part: str = "test", dataset: str = DATASET) -> str:
        """`0.863`."""
        row = self.cell(protocol, model, metric, part, dataset)
        return NOTHING if row is None else f"{row['mean']:.3f}"

    def interval(self, protocol: str, model: str, metric: str, part: str = "test", dataset: str = DATASET) -> str:
        """`0.794–0.911`."""
        row = self.cell(protocol, model, metric, part, dataset)
        return NOTHING if row is None else interval_text(row["ci_low"], row["ci_high"])

    def difference(
        self, protocol: str, baseline: str, metric: str, model: str = "medspectralnet", dataset: str = DATASET
    ) -> str:
        """`+0.019 (−0.042 to +0.080)`, the model less the baseline."""
        row = self.row(
            "pairs", dataset=dataset, protocol=protocol, part="test", metric=metric, model=model, baseline=baseline
        )
        return _signed(row)

    def effect(
        self, effect: str, metric: str, optimiser: str = "adam", part: str = "test", dataset: str = DATASET
    ) -> str:
        """A contrast over protocols, as `difference`."""
        return _signed(self._contrast(effect, metric, optimiser, part, dataset))

    def _contrast(
        self, effect: str, metric: str, optimiser: str, part: str, dataset: str = DATASET
    ) -> pd.Series | None:
        keys = {"dataset": dataset, "optimiser": optimiser, "part": part, "metric": metric, "effect": effect}
        return self.row("contrasts", **keys)

    def start(self, dataset: str, model: str) -> str:
        """What ImageNet weights do to a model's AUC by the plan's corrected test: `higher`, `lower` ...; `–`."""
        keys = {"dataset": dataset, "part": "test", "metric": "auc", "effect": gain_of_imagenet(model)}
        row = self.row("contrasts", **keys)
        return NOTHING if row is None else start_verdict(row["difference"], row["p"], row["n_seeds"])

    def start_seeds(self, dataset: str, effect: str) -> str:
        """The fewest seeds of the cells that an effect of a start is between; `–`."""
        row = self.row("contrasts", dataset=dataset, part="test", metric="auc", effect=effect)
        return NOTHING if row is None else str(row["n_seeds"])

    def shows_no_gain(self, effect: str, *optimisers: str) -> bool:
        """Whether a contrast was measured on the official test and none of its intervals lies above zero."""
        frame = self.tables["contrasts"]
        rows = frame[(frame["effect"] == effect) & frame["optimiser"].isin(optimisers) & (frame["part"] == "test")]
        return set(rows["optimiser"]) == set(optimisers) and not (rows["ci_low"] > 0).any()

    def below_zero(self, effect: str, optimiser: str = "adam") -> str:
        """Where the interval of a contrast lies below zero: `AUC (p 0.049), ACC, twin-free (p 0.027)`; "" nowhere."""
        texts = []
        for part, name in (("test", ""), ("test_twin_free", ", twin-free")):
            for metric in ("auc", "acc"):
                row = self._contrast(effect, metric, optimiser, part)
                if row is not None and row["ci_high"] < 0:
                    texts.append(f"{metric.upper()}{name} (p {p_text(row['p'])})")
        return ", ".join(texts)

    def separated(self, protocol: str, metric: str, models: Sequence[str], *, corrected: bool) -> str:
        """Baselines that differ from MedSpectralNet: by the corrected test, or by the single interval alone; `none`."""
        frame = self.tables["pairs"]
        pairs = frame[(frame["protocol"] == protocol) & (frame["dataset"] == DATASET) & (frame["part"] == "test")]
        pairs = pairs[(pairs["metric"] == metric) & (pairs["model"] == "medspectralnet")]
        pairs = pairs[pairs["baseline"].isin(list(models))]
        by_test = pairs["p_corrected"] < LEVEL
        single = (pairs["ci_low"] > 0) | (pairs["ci_high"] < 0)
        chosen = pairs[by_test if corrected else single & ~by_test]
        names = [f"{name_in_sentence(row['baseline'])} ({signed(row['difference'])})" for _, row in chosen.iterrows()]
        return ", ".join(names) or "none"

    def corrupted(self, protocol: str, *models: str) -> dict[str, pd.Series]:
        """Models' AUC on clean and on corrupted test images, of those that were scored on them, in this order."""
        rows = {
            model: self.row(
                "robustness", dataset=DATASET, protocol=protocol, model=model, metric="auc", corruption="all"
            )
            for model in models
        }
        return {model: row for model, row in rows.items() if row is not None}

    def drop(self, row: pd.Series) -> str:
        """`+0.032 (+0.004 to +0.060)`, of a row of `robustness`."""
        return difference_text(row["drop"], row["ci_low"], row["ci_high"])

    def lost_beside(self, protocol: str, metric: str) -> str:
        """What corruption costs MedSpectralNet beside the baselines of the analysis plan, in sentences; "" without."""
        frame = self.tables["robustness_pairs"]
        rows = frame[(frame["dataset"] == DATASET) & (frame["protocol"] == protocol) & (frame["metric"] == metric)]
        texts = []
        for _, row in rows[rows["role"].fillna("") != ""].iterrows():
            verdict = "not separated"
            if row["interval"] == IMAGES:
                verdict = "these weights alone, no network has two seeds"
            elif row["p"] < LEVEL:
                verdict = "it loses more" if row["difference"] > 0 else "it loses less"
            test = "" if row["interval"] == IMAGES else f"p {p_text(row['p'])}, "
            who = name_in_sentence(row["baseline"])
            texts.append(f"Compared with its {row['role']}, {who}: {_signed(row)}, {test}{verdict}.")
        return " ".join(texts)

    def unscored(self, protocol: str) -> str:
        """Models that a study plans for the track `c28` on BreastMNIST and that lack a planned seed of it; ""."""
        frame = self.tables["robustness"]
        rows = frame[(frame["dataset"] == DATASET) & (frame["protocol"] == protocol)]
        have = set(" ".join(rows["run_ids"]).split())
        lacking = without_score(planned_runs("c28", protocol, DATASET), protocol, DATASET, have)
        return ", ".join(dict.fromkeys(model_name(model) for model, _ in lacking))

    def best(self, protocol: str) -> str:
        """The baseline with the highest AUC on BreastMNIST under a protocol, "" where there is none."""
        frame = self.tables["cells"]
        rows = frame[(frame["dataset"] == DATASET) & (frame["protocol"] == protocol)]
        rows = rows[(rows["part"] == "test") & (rows["metric"] == "auc")]
        return best_baseline(zip(rows["model"], rows["mean"], rows["n_seeds"], strict=True))

    def calibration(self, protocol: str, model: str) -> str:
        """The cells of a model's row: ECE, what chance gives, verdict, temperature, likelihood and its two parts."""
        row = self.row("calibration", dataset=DATASET, part="test", protocol=protocol, model=model)
        if row is None:
            return " | ".join([NOTHING] * 7)
        error = f"{row['ece']:.3f} ({interval_text(row['ece_low'], row['ece_high'])})"
        chance = f"{row['ece_floor']:.3f}, {row['ece_floor_95']:.3f}"
        verdict = row["verdict"] if isinstance(row["verdict"], str) and row["verdict"] else NOTHING
        above = f"{verdict} ({row['seeds_above']} of {row['n_seeds']})"
        parts = (f"{row['temperature']:.2f}", *(f"{row[metric]:.3f}" for metric in LOSSES[:2]))
        return " | ".join([error, chance, above, *parts, signed(row["nll_calibration"])])

    def loss(self, protocol: str, baseline: str, metric: str) -> str:
        """A difference of likelihoods or of a part, in nats, as `difference`."""
        return _signed(self._loss(protocol, baseline, metric))

    def losses_apart(self, protocol: str, *baselines: str) -> bool:
        """Whether an interval of these differences, measured, excludes zero."""
        rows = [self._loss(protocol, baseline, metric) for baseline in baselines for metric in LOSSES]
        return any(row is not None and (row["ci_low"] > 0 or row["ci_high"] < 0) for row in rows)

    def _loss(self, protocol: str, baseline: str, metric: str) -> pd.Series | None:
        keys = {"dataset": DATASET, "protocol": protocol, "metric": metric}
        return self.row("calibration_pairs", **keys, model="medspectralnet", baseline=baseline)

    def exploratory(self) -> str:
        """How many of all exploratory pairs are below 5 %, and how many would be by chance.

        A data set without twins has the same pairs on both parts: they count once.
        """
        frame, cells = self.tables["pairs"], self.tables["cells"]
        number = {key: own.max() for key, own in cells.groupby(["dataset", "part"])["num_images"]}
        whole = [name for name, part in number if part == TWIN_FREE and number[name, TWIN_FREE] == number[name, "test"]]
        twice = frame["dataset"].isin(whole) & (frame["part"] == TWIN_FREE)
        chosen = frame[(frame["family"] == "exploratory") & ~twice]
        what = "any two models of one protocol, AUC and ACC, all test images and those without twins"
        return exploratory_text(chosen["p"], f"all of `results/tables/pairs.csv` that the plan does not name ({what})")

    def exploratory_draws(self, track: Track) -> str:
        """As `exploratory`, of MedSpectralNet's differences at all levels of rare classes, or of few images."""
        frame = self.tables["draw_pairs"]
        decided = (frame["track"] == track) & frame["verdict"].isin(VERDICTS)
        return exploratory_text(frame[decided]["p"], "MedSpectralNet's differences at all levels, the whole split too")

    def seeds(self, protocol: str, model: str, dataset: str = DATASET) -> str:
        """How many seeds a cell has, in digits."""
        row = self.cell(protocol, model, "auc", dataset=dataset)
        return NOTHING if row is None else str(int(row["n_seeds"]))

    def images(self, part: str = "test") -> int:
        """Test images of BreastMNIST in a part; 0 without a record."""
        frame = self.tables["cells"]
        counts = frame[(frame["dataset"] == DATASET) & (frame["part"] == part)]["num_images"]
        return 0 if counts.empty else int(counts.iloc[0])

    def cost(self, model: str, counter: str = "aten") -> float:
        """GMACs at 224 px and 8 classes; NaN where they were not counted."""
        row = self.row("costs", model=model, img_size=IMG_SIZE, num_classes=NUM_CLASSES, counter=counter)
        return float("nan") if row is None else float(row["gmacs"])

    def size(self, model: str) -> float:
        """Millions of parameters with 8 classes; NaN where they were not counted."""
        row = self.row("costs", model=model, img_size=IMG_SIZE, num_classes=NUM_CLASSES, counter="aten")
        return float("nan") if row is None else float(row["num_params"]) / 1e6

    def speed(self, model: str) -> str:
        """Images per second of inference on a CPU at 224 px, fp32, batch 32, in the faster memory format."""
        rows = self._timed(model)
        if rows.empty:
            return NOTHING
        best = rows.iloc[-1]
        return f"{best['median_images_per_second']:.1f} ({best['ci_low']:.1f} to {best['ci_high']:.1f})"

    def blocks(self, model: str) -> str:
        """How many blocks of batches `speed` rests on."""
        rows = self._timed(model)
        return NOTHING if rows.empty else str(rows.iloc[-1]["num_blocks"])

    def timed_on(self) -> str:
        """The CPUs that the models were timed on: `AMD EPYC, 1 thread`."""
        devices = self._timed()["device"].str.removeprefix("cpu: ")
        return "; ".join(sorted(set(devices))) or NOTHING

    def _timed(self, *models: str) -> pd.DataFrame:
        """Rows of models, of all without a name, as `speed` reads them; the fastest last."""
        frame = self.tables["timings"]
        rows = frame[(frame["img_size"] == IMG_SIZE) & (frame["mode"] == "inference") & ~frame["compiled"]]
        rows = rows[(rows["precision"] == "fp32") & (rows["batch_size"] == BATCH_SIZE) & (rows["status"] == "done")]
        rows = rows[rows["device"].str.startswith("cpu")]
        rows = rows[rows["model"].isin(models)] if models else rows
        return rows.sort_values("median_images_per_second")

    def published(self, model: str, protocol: str, metric: str) -> str:
        """What is printed elsewhere for the model on BreastMNIST."""
        score = reference_score(model, DATASET, metric, protocol)
        return NOTHING if score is None else f"{score.value:.3f}"

    def draws(self, track: Track) -> list[str]:
        """What the records say of a track, a sentence a data set, level and arm."""
        return sentences(self.tables["draws"], self.tables["draw_pairs"], track)

    def undecidable(self, track: Track) -> str:
        """Levels of a track that the plan lets nothing be said of, "" without one."""
        return undecidable(self.tables["draws"], track)

    def has_network(self, track: Track) -> bool:
        """Whether a network has a cell that a sentence may rest on."""
        return has_network(self.tables["draws"], track)

    def verdicts(self, *verdicts: str, kind: str = "") -> int:
        """Claims of the paper with one of these verdicts, by one kind of check or any."""
        frame = self.claims(kind)
        return int(frame["verdict"].isin(verdicts).sum())

    def claims(self, kind: str = "") -> pd.DataFrame:
        """Claims of the paper, of one kind of check or any."""
        frame = self.tables["claims"]
        return frame[frame["kind"] == kind] if kind else frame


def _signed(row: pd.Series | None) -> str:
    if row is None:
        return NOTHING
    return difference_text(row["difference"], row["ci_low"], row["ci_high"])


def render(tables: Mapping[str, bytes], claims: bytes) -> bytes:
    """The page, a pure function of the generated tables.

    Args:
        tables: Content of `results/tables/` by file name.
        claims: Content of `reports/claims.csv`.
    """
    frames = {name.removesuffix(".csv"): pd.read_csv(io.BytesIO(content)) for name, content in tables.items()}
    frames["claims"] = pd.read_csv(io.BytesIO(claims), comment="#")
    page = template("findings.md.jinja").render(facts=Facts(frames))
    return f"{BEGIN}\n\n{page.strip()}\n".encode()


def findings_beside(reports: Path) -> Path | None:
    """The checkout's `docs/findings.md`, None where there is none that a report has written."""
    path = reports.parent / "docs" / "findings.md"
    return path if path.is_file() and path.read_text(encoding="utf-8").startswith(BEGIN) else None
