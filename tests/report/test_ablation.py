"""Effects over protocols, by hand, and the table of what MedSpectralNet's parts add."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import RecordError
from bench.records.names import Run
from bench.records.run_record import Record
from bench.report.analysis.analyse import Analysis, analyse
from bench.report.analysis.contrasts import EFFECTS, INTERACTION, MAIN_CUTMIX, MAIN_MODEL, Contrast
from bench.report.analysis_plan import PARTS
from bench.report.evidence import Evidence, gather
from bench.report.tables import ablation, table2, table3
from bench.stats.comparisons import PairingError
from models.catalog import get_spec
from tests.making import make_skilled
from tests.report.rows import only

PLAIN, CUTMIX = (f"breast-ablation-adam-{kind}" for kind in ("plain", "cutmix"))
OURS, TRUNK, SET = "medspectralnet", "resnet18", "breastmnist"
# (protocol, model) -> skill: CutMix lifts the whole model much and the trunk not at all.
SKILLS = {(PLAIN, OURS): 1.0, (CUTMIX, OURS): 3.0, (PLAIN, TRUNK): 1.0, (CUTMIX, TRUNK): 1.0}


def read(results: Path) -> tuple[Evidence, Analysis]:
    evidence = gather(results)
    return evidence, analyse(evidence, synthetic=False)


@pytest.fixture(scope="module")
def factorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("factorial")
    for (protocol, model), skill in SKILLS.items():
        for seed in (0, 1, 2):
            make_skilled(results, Run(protocol, model, SET, seed), skill)
    return results


def effect(analysis: Analysis, name: str, metric: str = "acc", part: str = "test") -> Contrast:
    return only(analysis.contrasts, effect=name, metric=metric, part=part)


def scores(records: list[Record], protocol: str, model: str, metric: str) -> list[float]:
    return [float(r.test[metric]) for r in records if r.test and (r.protocol, r.model) == (protocol, model)]


@pytest.mark.parametrize("metric", ["acc", "auc"])
def test_effects_are_weighted_sums_of_the_records_means(factorial: Path, metric: str) -> None:
    """Each simple effect is a difference of two means, main effects are means of two, the interaction is their gap."""
    evidence, analysis = read(factorial)
    mean = {key: sum(found) / 3 for key in SKILLS for found in [scores(evidence.records, *key, metric)]}
    by_hand = {
        f"CutMix, {OURS}": mean[CUTMIX, OURS] - mean[PLAIN, OURS],
        f"CutMix, {TRUNK}": mean[CUTMIX, TRUNK] - mean[PLAIN, TRUNK],
        "model, plain": mean[PLAIN, OURS] - mean[PLAIN, TRUNK],
        "model, CutMix": mean[CUTMIX, OURS] - mean[CUTMIX, TRUNK],
    }
    by_hand[MAIN_MODEL] = (by_hand["model, plain"] + by_hand["model, CutMix"]) / 2
    by_hand[MAIN_CUTMIX] = (by_hand[f"CutMix, {OURS}"] + by_hand[f"CutMix, {TRUNK}"]) / 2
    by_hand[INTERACTION] = by_hand[f"CutMix, {OURS}"] - by_hand[f"CutMix, {TRUNK}"]
    assert list(by_hand) == list(EFFECTS)
    for name, value in by_hand.items():
        row = effect(analysis, name, metric)
        assert row.difference == pytest.approx(value, abs=1e-9)
        assert row.ci_low < row.difference < row.ci_high
        assert (row.optimiser, row.dataset, row.n_seeds) == ("adam", SET, 3)


def test_an_effect_is_rounded_once(factorial: Path) -> None:
    """The double next to the exact sum of the weighted means: Python 3.12's `sum` adds floats otherwise than 3.11's."""
    evidence, analysis = read(factorial)
    settings = {(OURS, "plain"): PLAIN, (OURS, "cutmix"): CUTMIX, (TRUNK, "plain"): PLAIN, (TRUNK, "cutmix"): CUTMIX}
    for name, weights in EFFECTS.items():
        found = {cell: scores(evidence.records, settings[cell], cell[0], "auc") for cell in weights}
        exact = sum(Fraction(weights[cell]) * Fraction(math.fsum(values) / 3) for cell, values in found.items())
        assert effect(analysis, name, "auc").difference == float(exact), name


def test_a_simple_effect_within_one_protocol_is_the_pair_of_the_analysis(factorial: Path) -> None:
    """Where a contrast is also a pair of models, both come from one covariance and agree to the last digit kept."""
    _, analysis = read(factorial)
    for protocol, name in ((PLAIN, "model, plain"), (CUTMIX, "model, CutMix")):
        pair = only(analysis.pairs, protocol=protocol, part="test", metric="acc")
        row = effect(analysis, name)
        for column in ("difference", "ci_low", "ci_high", "p"):
            assert getattr(row, column) == pytest.approx(getattr(pair, column), rel=1e-8), column


def test_the_interaction_finds_who_gains(factorial: Path) -> None:
    """CutMix was made to help the whole model alone: its own effect is above zero, the trunk's is not separated."""
    analysis = read(factorial)[1]
    assert effect(analysis, f"CutMix, {OURS}", "auc").ci_low > 0
    trunk = effect(analysis, f"CutMix, {TRUNK}", "auc")
    assert trunk.ci_low < 0 < trunk.ci_high
    assert effect(analysis, INTERACTION, "auc").difference > 0.1


def test_all_seeds_of_every_cell_count(tmp_path: Path) -> None:
    """Three seeds beside another one: the difference of the means, and n is the fewest. One cell missing: no effect."""
    for seed in (0, 1, 2):
        make_skilled(tmp_path, Run(PLAIN, OURS, SET, seed), 1.0)
    make_skilled(tmp_path, Run(CUTMIX, OURS, SET, 1), 3.0)
    make_skilled(tmp_path, Run(CUTMIX, TRUNK, SET, 1), 3.0)
    evidence, analysis = read(tmp_path)
    assert {contrast.effect for contrast in analysis.contrasts} == {f"CutMix, {OURS}", "model, CutMix"}
    row = effect(analysis, f"CutMix, {OURS}")
    with_it, without = (scores(evidence.records, protocol, OURS, "acc") for protocol in (CUTMIX, PLAIN))
    assert row.n_seeds == 1
    assert row.difference == pytest.approx(with_it[0] - sum(without) / 3)
    assert row.detectable > row.ci_high - row.difference


def test_any_model_of_table_2_has_its_gain_of_cutmix(tmp_path: Path) -> None:
    """Not only the two of the factorial: Table 2 prints a difference of means for each model that ran."""
    for protocol, skill in ((PLAIN, 0.5), (CUTMIX, 2.0)):
        make_skilled(tmp_path, Run(protocol, "medvit_t", SET, 0), skill)
    evidence, analysis = read(tmp_path)
    row = effect(analysis, "CutMix, medvit_t")
    with_it, without = (scores(evidence.records, protocol, "medvit_t", "acc") for protocol in (CUTMIX, PLAIN))
    assert row.difference == pytest.approx(with_it[0] - without[0])
    text = table2.render(evidence, analysis, synthetic=False)["table2.md"].decode()
    assert f"{row.difference:+.3f} " in next(
        line for line in text.splitlines() if line.startswith("| Adam") and " to " in line
    )


def test_other_images_are_refused(tmp_path: Path) -> None:
    """Two protocols on different files of a data set are no pair."""
    make_skilled(tmp_path, Run(PLAIN, OURS, SET, 0), 1.0)
    make_skilled(tmp_path, Run(CUTMIX, OURS, SET, 0), 1.0, data_md5="0" * 32)
    with pytest.raises((PairingError, RecordError), match="different files"):
        read(tmp_path)


def test_parts_removed_stand_beside_the_whole(tmp_path: Path) -> None:
    """A row a variant with the whole model's lead and its interval; what is missing has its reason and a command."""
    for model, skill in ((OURS, 3.0), ("medspectralnet_no_gate", 0.5)):
        for seed in (0, 1, 2):
            make_skilled(tmp_path, Run("lite-96", model, SET, seed), skill)
    evidence, analysis = read(tmp_path)
    files = ablation.render(evidence, analysis, synthetic=False)
    text = files["ablation.md"].decode()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| MedSpectralNet")}
    lead = only(analysis.pairs, part="test", metric="acc").difference
    assert f"+{lead:.3f} (" in rows["MedSpectralNet without ContextGate"]
    assert "higher" in rows["MedSpectralNet without ContextGate"]
    assert rows["MedSpectralNet without the first SpectralFlow"].count("–") == 5  # size, both scores, both leads
    assert (
        "- lite-96: MedSpectralNet without the first SpectralFlow, MedSpectralNet without the second SpectralFlow, "
        "ResNet-18: not run" in text
    )
    assert "`medbench run --study ablation` runs them." in text
    assert "without ContextGate" not in table3.render(evidence, analysis, synthetic=False)["table3.md"].decode()


def test_the_factorial_is_printed_with_intervals(factorial: Path) -> None:
    """Means of both models and every effect; Table 2 shows the same gain of CutMix."""
    evidence, analysis = read(factorial)
    text = ablation.render(evidence, analysis, synthetic=False)["ablation.md"].decode()
    row = effect(analysis, INTERACTION)
    assert f"{row.difference:+.3f} (".replace("-", "−") in next(
        line for line in text.splitlines() if line.startswith("| interaction")
    )
    gain = effect(analysis, f"CutMix, {OURS}")
    text2 = table2.render(evidence, analysis, synthetic=False)["table2.md"].decode()
    gains = [line for line in text2.splitlines() if line.startswith("| Adam") and " to " in line]
    cells = [cell.strip() for cell in gains[0].split("|")]
    assert cells[4:6] == [f"{gain.difference:+.3f}", f"{gain.ci_low:+.3f} to {gain.ci_high:+.3f}"]


def test_without_records_the_tables_say_so(tmp_path: Path) -> None:
    """Columns stay, every cell is missing, and the study that fills them is named."""
    analysis = analyse(Evidence(tmp_path), synthetic=False)
    assert analysis.contrasts == ()
    files = ablation.render(Evidence(tmp_path), analysis, synthetic=False)
    assert files["ablation.md"].decode().count("`medbench run --study ablation` runs them.") == 2
    assert ablation.render(Evidence(tmp_path), analysis, synthetic=True) == {}
    frame = pd.read_csv(pd.io.common.BytesIO(files["ablation.csv"]), comment="#")
    assert len(frame) == 5 + 4
    assert frame["missing"].notna().all()


def test_the_parts_are_registered_and_their_lack_is_what_the_registry_says() -> None:
    """The table's words and the registry's agree on which part each variant lacks."""
    for model, part in PARTS.items():
        assert part.removeprefix("the ") in get_spec(model).source


def test_an_effect_that_nothing_moves_has_no_interval(tmp_path: Path) -> None:
    """Two perfect models differ by nothing, and one pair of seeds cannot say how sure that is."""
    for protocol in (PLAIN, CUTMIX):
        make_skilled(tmp_path, Run(protocol, OURS, SET, 0), 1000.0)
    row = effect(read(tmp_path)[1], f"CutMix, {OURS}")
    assert row.difference == 0.0
    assert math.isnan(row.ci_low)
