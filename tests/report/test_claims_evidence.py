"""Planted evidence: one number changed in a copy, and the verdict turns."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import RecordError
from bench.records.card import write_card
from bench.records.names import Run, history_path
from bench.records.predictions import frame_bytes
from bench.records.run_record import Record
from bench.records.writing.swap import kept_path
from bench.report.analysis.cells import CLASS_MEASURES
from bench.report.analysis.contrasts import Contrast, gain_of_cutmix
from bench.report.analysis.resolution import TEST_IMAGES
from bench.report.analysis.scores import ClassScore, Score
from bench.report.claims.histories import training_loss
from bench.report.claims.sources import STATED, Sources, collect
from bench.report.claims.verdict import Judged
from bench.report.evidence import Evidence
from bench.report.tidy_costs import Timing
from bench.stats.uncertainty import Uncertainty
from tests.making import make_card, make_record
from tests.report.claim_sources import EMPTY, judged, verdict, without_runs
from tests.report.rows import make_pair, make_score, only

SIX = tuple(TEST_IMAGES)


def needs(item: Judged) -> tuple[str, ...]:
    return tuple(map(str, item.outcome.needs))


@pytest.fixture
def sources() -> Sources:
    return without_runs()


def test_another_count_turns_a_costs_check(sources: Sources) -> None:
    """Both ways, for parameters and for MACs."""
    key = ("medspectralnet", 224, 8)
    record = sources.costs[key]
    small = record.model_copy(update={"num_params": 8_450_000})  # rounds to 8.5, a half up
    assert verdict(dataclasses.replace(sources, costs={**sources.costs, key: small}), "C005") == "holds"
    counts = [count.model_copy(update={"macs": 1_995_000_000}) for count in record.counts]
    changed = dataclasses.replace(sources, costs={**sources.costs, key: record.model_copy(update={"counts": counts})})
    assert verdict(changed, "C148") == "holds"
    other = ("medmamba_t", 224, 8)
    large = sources.costs[other].model_copy(update={"num_params": 14_550_001})
    assert verdict(sources, "C007") == "holds"
    assert verdict(dataclasses.replace(sources, costs={**sources.costs, other: large}), "C007") == "fails"


def test_a_scaling_needs_counts_at_twice_the_size_and_follows_them(sources: Sources) -> None:
    """Undecided with the command; linear holds, more than linear fails."""
    item = judged(dataclasses.replace(sources, costs={k: v for k, v in sources.costs.items() if k[1] == 224}), "C014")
    assert item.outcome.verdict == "undecided"
    assert needs(item) == ("medbench measure costs --models medmamba_t --size 448 --num-classes 8",)
    record = sources.costs["medmamba_t", 224, 8]
    for factor, expected in ((4, "holds"), (5, "fails")):
        counts = [count.model_copy(update={"macs": factor * count.macs}) for count in record.counts]
        planted = {**sources.costs, ("medmamba_t", 448, 8): record.model_copy(update={"counts": counts})}
        assert verdict(dataclasses.replace(sources, costs=planted), "C014") == expected


def test_another_card_turns_a_data_check(sources: Sources) -> None:
    """Label names, channels and counts, both ways."""

    def planted(dataset: str, **changes: Any) -> Sources:
        facts = dataclasses.replace(sources.data[dataset], **changes)
        return dataclasses.replace(sources, data={**sources.data, dataset: facts})

    assert verdict(planted("breastmnist", class_names=("normal", "benign, malignant")), "C101") == "holds"
    assert verdict(planted("breastmnist", class_names=("normal", "benign, malignant")), "C102") == "holds"
    assert verdict(planted("breastmnist", class_names=("a", "b", "c")), "C043") == "holds"
    assert verdict(planted("organcmnist", num_channels=3), "C045") == "holds"
    assert verdict(planted("bloodmnist", num_images={"train": 11_959, "val": 1_712, "test": 3_420}), "C042") == "fails"
    assert verdict(planted("pneumoniamnist", class_names=("a", "b", "c")), "C044") == "fails"


def test_a_measured_card_decides_what_info_leaves_open(sources: Sources) -> None:
    """Recall of class 6 on OrganSMNIST needs its number of images: undecided with the command, then either way."""
    facts = sources.data["organsmnist"]
    bare = dataclasses.replace(facts, class_counts={})
    item = judged(dataclasses.replace(sources, data={**sources.data, "organsmnist": bare}), "C088")
    assert item.outcome.verdict == "undecided"
    assert needs(item) == ("medbench measure data --datasets organsmnist",)
    for number, expected in ((2078, "fails"), (1850, "holds")):  # 87.9 % and 98.7 %
        counted = dataclasses.replace(facts, class_counts={"test": [0] * 6 + [number]})
        planted = dataclasses.replace(sources, data={**sources.data, "organsmnist": counted})
        assert verdict(planted, "C088") == expected


def test_imbalance_follows_the_cards(sources: Sources) -> None:
    """More than nine to one is not moderate, and a majority's share can tell; below 1 % is another claim."""

    def counted(**counts: list[int]) -> Sources:
        facts = {name: dataclasses.replace(sources.data[name], class_counts={"all": [90, 10]}) for name in SIX}
        facts |= {name: dataclasses.replace(facts[name], class_counts={"all": own}) for name, own in counts.items()}
        return dataclasses.replace(sources, data=facts)

    assert verdict(counted(), "C169") == "holds"
    assert verdict(counted(organsmnist=[91, 10]), "C169") == "fails"
    assert verdict(counted(organsmnist=[91, 10]), "C170") == "holds"
    uncounted = counted()
    derma = dataclasses.replace(uncounted.data["dermamnist"], class_counts={})
    organ = dataclasses.replace(uncounted.data["organcmnist"], class_counts={})  # 22.33 % of 11 classes: 2.9 to 1
    of_derma = dataclasses.replace(uncounted, data={**uncounted.data, "dermamnist": derma})
    of_organ = dataclasses.replace(uncounted, data={**uncounted.data, "organcmnist": organ})
    assert (verdict(of_derma, "C169"), verdict(of_derma, "C170")) == ("fails", "undecided")
    assert (verdict(of_organ, "C169"), verdict(of_organ, "C170")) == ("undecided", "undecided")


def test_a_class_below_one_percent_fails_on_any_card(sources: Sources) -> None:
    """One class below 1 % fails, none holds, a missing card is undecided unless another one fails."""
    for rare, expected in ((10, "holds"), (9, "fails")):
        facts = {
            name: dataclasses.replace(sources.data[name], class_counts={"train": [500, 500 - rare], "test": [0, rare]})
            for name in SIX
        }
        facts["dermamnist"] = dataclasses.replace(facts["dermamnist"], class_counts={"all": [rare, 1000 - rare]})
        assert verdict(dataclasses.replace(sources, data=facts), "C170") == expected
    facts["bloodmnist"] = dataclasses.replace(facts["bloodmnist"], class_counts={})
    assert verdict(dataclasses.replace(sources, data=facts), "C170") == "fails"
    facts["dermamnist"] = dataclasses.replace(facts["dermamnist"], class_counts={"all": [10, 990]})
    assert needs(judged(dataclasses.replace(sources, data=facts), "C170")) == (
        "medbench measure data --datasets bloodmnist",
    )


def test_a_card_in_the_results_goes_before_info(tmp_path: Path) -> None:
    """What was measured is what is judged."""
    write_card(tmp_path, make_card("organcmnist").model_copy(update={"num_channels": 3}))
    found = collect(Evidence(tmp_path), EMPTY)
    assert verdict(found, "C045") == "holds"
    assert "results/data/organcmnist.json" in str(judged(found, "C045").outcome.sources[0])


@pytest.mark.parametrize(
    ("claim", "name", "dataset", "value", "before", "after"),
    [
        ("C132", "ResNet-18 (28 px)", "pneumoniamnist", 0.855, "holds", "fails"),
        ("C119", "MedMamba-T (224 px)", "bloodmnist", 0.988, "not testable", "fails"),  # 0.8 points, error 0.30
        ("C119", "MedMamba-T (224 px)", "bloodmnist", 0.986, "not testable", "not testable"),  # 0.6, error 0.31
        ("C143", "Google AutoML Vision (28 px)", "pneumoniamnist", 0.983, "not testable", "fails"),  # 4.1, error 1.07
        ("C143", "Google AutoML Vision (28 px)", "pneumoniamnist", 0.963, "not testable", "not testable"),
        ("C128", "MedViT-S (224 px)", "pneumoniamnist", 0.999, "not testable", "not testable"),
        ("C123", "MedMamba-B (224 px)", "breastmnist", 0.999, "not testable", "not testable"),  # S is open
        ("C126", "MedViT-S (224 px)", "pneumoniamnist", 0.985, "not testable", "fails"),  # it is not 96.1
        ("C174", "MedViT-S (224 px)", "bloodmnist", 0.981, "holds", "not testable"),  # 0.4 on DermaMNIST
        ("C130", "MedViT-S (224 px)", "bloodmnist", 0.955, "holds", "fails"),
    ],
)
def test_another_published_score_turns_a_published_check(
    sources: Sources, claim: str, name: str, dataset: str, value: float, before: str, after: str
) -> None:
    """The published file decides, not memory."""
    assert verdict(sources, claim) == before
    chosen = only(sources.scores, name=name, dataset=dataset, metric="acc")
    scores = tuple(dataclasses.replace(s, value=value) if s is chosen else s for s in sources.scores)
    assert verdict(dataclasses.replace(sources, scores=scores), claim) == after


def test_published_costs_decide_too(sources: Sources) -> None:
    """A published count turns its claim, either way."""
    changes: dict[str, Any] = {
        "ConvNeXt-T (1000 cls)": {"gmacs": 4.48},
        "VMamba-T (early release, 2024-02)": {"num_params_m": 23.0},
    }
    costs = tuple(dataclasses.replace(cost, **changes.get(cost.name, {})) for cost in sources.published_costs)
    assert costs != sources.published_costs
    changed = dataclasses.replace(sources, published_costs=costs)
    assert (verdict(sources, "C151"), verdict(changed, "C151")) == ("holds", "fails")
    assert (verdict(sources, "C156"), verdict(changed, "C156")) == ("holds", "fails")


def _score(protocol: str, dataset: str, middle: float, half: float, n_seeds: int = 3) -> Score:
    seeds = tuple(range(n_seeds))
    ends = (middle - half, middle + half)
    found = Uncertainty((half / 1.959964) ** 2)
    return make_score(
        "medspectralnet", middle, *ends, protocol=protocol, dataset=dataset, seeds=seeds, uncertainty=found
    )


def _with(sources: Sources, **statistics: Any) -> Sources:
    planted = {name: tuple(rows) for name, rows in statistics.items()}
    return dataclasses.replace(sources, analysis=dataclasses.replace(EMPTY, **planted))


@pytest.mark.parametrize(
    ("protocol", "n_seeds", "middle", "expected"),
    [
        (STATED, 3, 0.87, "holds"),  # 0.5 points, 90 % within 1.34 points of it: inside 2
        (STATED, 3, 0.90, "fails"),
        (STATED, 3, 0.83, "fails"),
        (STATED, 3, 0.88, "undecided"),  # 1.5 points: 95 % holds 0, 90 % leaves the margin
        (STATED, 2, 0.87, "undecided"),
        ("lite-96", 3, 0.87, "undecided"),
        ("paper-224-scratch", 3, 0.50, "undecided"),
    ],
)
def test_runs_decide_an_accuracy_under_the_paper_s_protocol_alone(
    sources: Sources, protocol: str, n_seeds: int, middle: float, expected: str
) -> None:
    """Confirmed or contradicted by the interval of three seeds; another protocol is shown and decides nothing."""
    planted = _with(sources, scores=[_score(protocol, "breastmnist", middle, 0.016, n_seeds)])
    item = judged(planted, "C115")
    assert item.outcome.verdict == expected
    assert f"medspectralnet__breastmnist__{protocol}__s0" in item.outcome.sources
    if expected == "undecided" and (protocol, n_seeds) == (STATED, 3):
        assert needs(item) == ()  # no more seeds than the plan has
        assert "optional stopping" in item.outcome.why
    elif expected == "undecided":
        assert needs(item) == (
            f"medbench run --protocol {STATED} --models medspectralnet --datasets breastmnist --seeds 0-2",
        )
        assert ("another protocol" in item.outcome.found) == (protocol != STATED)


def test_granularity_fails_a_number_that_no_run_can_give(sources: Sources) -> None:
    """On 7 images no mean of up to five runs rounds to 86.5 %; runs cannot mend that."""
    runs = _with(sources, scores=[_score(STATED, "breastmnist", 0.87, 0.016)])
    facts = dataclasses.replace(sources.data["breastmnist"], num_images={"train": 1, "val": 1, "test": 7})
    few = dataclasses.replace(runs, data={**runs.data, "breastmnist": facts})
    assert (judged(few, "C115").outcome.verdict, judged(few, "C115").kind) == ("fails", "granularity")
    assert (judged(runs, "C115").outcome.verdict, judged(runs, "C115").kind) == ("holds", "granularity")


@pytest.mark.parametrize(
    ("difference", "p", "word", "expected"),
    [
        (0.1, 0.01, "higher", "holds"),
        (-0.1, 0.01, "lower", "fails"),
        (0.1, 0.5, "not separated", "undecided"),
    ],
)
def test_pairs_decide_what_the_architecture_adds(
    sources: Sources, difference: float, p: float, word: str, expected: str
) -> None:
    """The analysis plan's verdict is taken over, on all six sets; one set less is undecided."""
    fields: dict[str, Any] = {"protocol": STATED, "metric": "acc", "n_seeds": 3, "n_seeds_baseline": 3}
    ends = (difference - 0.05, difference + 0.05)
    pairs = [make_pair("resnet18", difference, *ends, p, dataset=name, **fields) for name in SIX]
    assert {pair.verdict for pair in pairs} == {word}
    assert verdict(_with(sources, pairs=pairs), "C125") == expected
    assert verdict(_with(sources, pairs=pairs[:-1]), "C125") == ("fails" if word == "lower" else "undecided")


def test_classes_decide_what_the_figures_show(sources: Sources) -> None:
    """Ends of the per-class AUC, average precision and recall, each both ways."""

    def planted(dataset: str, **values: list[float]) -> Sources:
        rows = []
        for index in range(11):
            measures = dict.fromkeys(CLASS_MEASURES, math.nan) | {
                name: column[index] for name, column in values.items()
            }
            names = (STATED, "medspectralnet", dataset, "test", index, f"class {index}")
            rows.append(ClassScore(*names, *(measures[name] for name in CLASS_MEASURES), 3))
        facts = dataclasses.replace(sources.data[dataset], class_counts={"test": [700] * 11})
        counted = dataclasses.replace(sources, data={**sources.data, dataset: facts})
        return _with(counted, classes=rows)

    high = [0.972, *[0.99] * 9, 0.999]
    assert verdict(planted("organcmnist", auc=high), "C076") == "holds"
    assert verdict(planted("organcmnist", auc=[0.9, *high[1:]]), "C076") == "fails"
    assert verdict(planted("organcmnist", auc=high), "C008") == "holds"
    assert verdict(planted("organcmnist", auc=[0.97] * 11), "C008") == "fails"
    assert verdict(planted("organcmnist", ap=[0.97] * 3 + [0.9] + [0.97] * 6 + [0.9]), "C080") == "holds"
    assert verdict(planted("organcmnist", ap=[0.93] * 11), "C080") == "fails"
    near = planted("organcmnist", ap=[0.96] * 11)  # 1.645 x 0.0076 below is 0.9475: 700 images do not tell
    assert verdict(near, "C080") == "undecided"
    assert "optional stopping" in judged(near, "C080").outcome.why
    assert verdict(planted("organcmnist", ap=[0.97] * 3 + [0.922] + [0.97] * 6 + [0.935]), "C079") == "holds"
    assert verdict(planted("organcmnist", ap=[0.85] * 3 + [0.922] + [0.97] * 6 + [0.935]), "C079") == "fails"
    assert verdict(planted("organsmnist", ap=[0.9] * 10 + [0.8]), "C099") == "holds"
    assert verdict(planted("organsmnist", ap=[0.7] * 10 + [0.8]), "C099") == "fails"
    assert verdict(planted("organsmnist", recall=[0.8] * 10 + [0.85]), "C098") == "holds"
    assert verdict(planted("organsmnist", recall=[0.8] * 10 + [0.95]), "C098") == "fails"
    assert verdict(planted("organsmnist", auc=[0.99] * 10 + [0.96]), "C094") == "holds"
    assert verdict(planted("organsmnist", auc=[0.99] * 11), "C094") == "fails"
    assert verdict(planted("organsmnist", auc=[0.99] * 10 + [0.96]), "C095") == "holds"
    assert verdict(planted("organsmnist", auc=[0.99] * 10 + [0.93]), "C095") == "fails"
    assert verdict(planted("organsmnist", auc=[0.99] * 10 + [0.5]), "C097") == "holds"  # nearly every class
    assert verdict(planted("organsmnist", auc=[0.99] * 9 + [0.5, 0.5]), "C097") == "fails"


def _with_history(results: Path, history: pd.DataFrame) -> tuple[Record, ...]:
    """Three seeds of MedSpectralNet that all have this history."""
    content = frame_bytes(history)
    records = []
    for seed in range(3):
        run = Run(STATED, "medspectralnet", "organcmnist", seed)
        path = history_path(run.path(results))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        records.append(make_record(run, best_epoch=10, history_sha256=hashlib.sha256(content).hexdigest()))
    return tuple(records)


@pytest.mark.parametrize(
    ("claim", "last", "expected"),
    [
        ("C063", 0.51, "not testable"),  # the loss on test images has no record
        ("C063", 0.56, "fails"),
        ("C062", 0.5, "not testable"),
        ("C062", -3.0, "fails"),  # half of the fall comes after epoch 100
    ],
)
def test_histories_decide_what_the_curves_show(
    sources: Sources, tmp_path: Path, claim: str, last: float, expected: str
) -> None:
    """The training loss falls to epoch 50 and stays, but for the last epoch; three seeds or undecided."""
    history = pd.DataFrame({"epoch": range(200), "train_loss": [2.0] * 49 + [0.5] * 150 + [last]})
    records = _with_history(tmp_path, history)
    assert verdict(dataclasses.replace(sources, results=tmp_path, records=records), claim) == expected
    assert verdict(dataclasses.replace(sources, results=tmp_path, records=records[:2]), claim) == "undecided"


def test_only_the_records_own_history_counts(sources: Sources, tmp_path: Path) -> None:
    """A rewritten file is refused, and the one kept while a replacement goes on is read in its place."""
    records = _with_history(tmp_path, pd.DataFrame({"epoch": range(200), "train_loss": [2.0] * 199 + [0.5]}))
    planted = dataclasses.replace(sources, results=tmp_path, records=records)
    path = history_path(records[0].run.path(tmp_path))
    path.rename(kept_path(path))
    path.write_bytes(frame_bytes(pd.DataFrame({"epoch": range(200), "train_loss": 9.0})))
    assert training_loss(planted, "organcmnist").known() == Fraction(1, 2)
    kept_path(path).unlink()
    with pytest.raises(RecordError, match=f"{path.name} is not the file that {records[0].run_id} was sealed with"):
        training_loss(planted, "organcmnist")


@pytest.mark.parametrize("last", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_named(sources: Sources, tmp_path: Path, last: float) -> None:
    """One line with the run and the column."""
    records = _with_history(tmp_path, pd.DataFrame({"epoch": range(2), "train_loss": [2.0, last]}))
    planted = dataclasses.replace(sources, results=tmp_path, records=records)
    with pytest.raises(RecordError, match=f"{records[0].run_id}: no finite train_loss"):
        training_loss(planted, "organcmnist")


@pytest.mark.parametrize(
    ("train", "val", "test", "overfit", "exceeds"),
    [
        (0.95, 0.95, 0.97, "holds", "holds"),  # 90 % of 0 is within 1.04 points; -2 is beyond 1.03 of 0
        (0.999, 0.93, 0.95, "fails", "fails"),
        (0.96, 0.94, 0.955, "undecided", "undecided"),
        (None, 0.95, 0.97, "undecided", "undecided"),  # a history from before the column was recorded
    ],
)
def test_train_images_as_they_are_decide_what_the_gap_means(
    sources: Sources, tmp_path: Path, train: float | None, val: float, test: float, overfit: str, exceeds: str
) -> None:
    """Over-fitting by train less val after the last epoch, generalisation by train less test at the chosen one."""
    columns = {"epoch": range(200), "train_loss": 1.0, "val_acc": val}
    history = pd.DataFrame(columns if train is None else {**columns, "plain_train_acc": train})
    records = _with_history(tmp_path, history)
    planted = dataclasses.replace(
        _with(sources, scores=[_score(STATED, "organcmnist", test, 0.01)]), results=tmp_path, records=records
    )
    assert (verdict(planted, "C064"), verdict(planted, "C067")) == (overfit, exceeds)
    assert bool(needs(judged(planted, "C064"))) == (train is None)


def test_a_definition_is_no_run_s(sources: Sources) -> None:
    """That an AUC of 0.5 is chance holds without a record, and counts among no runs."""
    found = judged(sources, "C056")
    assert (found.outcome.verdict, found.kind, found.outcome.found) == ("holds", "arithmetic", "0.5")


def _p(gain: float) -> float:
    """Of a gain whose standard error is 0.0102: 0.1 is beyond doubt, 0.022 has 0.031, 0.01 has 0.33."""
    return math.erfc(abs(gain) / 0.0102 / math.sqrt(2))


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((0.1, -0.1, 0.01), "holds"),  # one gain is a gain
        ((0.022, -0.1, -0.1), "undecided"),  # p 0.031 is 0.093 where one of three may be chosen
        ((-0.1, -0.1, -0.1), "fails"),
        ((-0.1, -0.1, 0.01), "undecided"),
        ((-0.1, -0.1, None), "undecided"),
        ((0.1, None, None), "holds"),
    ],
)
def test_the_ablation_decides_whether_cutmix_helps(
    sources: Sources, gains: tuple[float | None, ...], expected: str
) -> None:
    """Under one optimiser at least, the paired interval on one side of zero, three seeds or more."""
    effect = gain_of_cutmix("medspectralnet")
    rows = [
        Contrast("breastmnist", name, "test", "acc", effect, 3, gain, gain - 0.02, gain + 0.02, _p(gain), 0.03, 0.5)
        for name, gain in zip(("sgd", "rmsprop", "adam"), gains, strict=True)
        if gain is not None
    ]
    assert verdict(_with(sources, contrasts=rows), "C112") == expected
    changes: list[dict[str, Any]] = [{"n_seeds": 2}, {"effect": gain_of_cutmix("resnet18")}]
    for change in changes:
        changed = [dataclasses.replace(row, **change) for row in rows]
        assert verdict(_with(sources, contrasts=changed), "C112") == "undecided"


def _timed(model: str, rate: float, **changes: Any) -> Timing:
    fields: dict[str, Any] = {
        "img_size": 224,
        "device": "cuda: a card",
        "mode": "inference",
        "precision": "fp32",
        "memory_format": "contiguous",
        "compiled": False,
        "batch_size": 1,
        "peak_memory_mib": 100.0,
        "joules_per_image": math.nan,
        "scan_backend": "mamba_ssm" if model == "medmamba_t" else "",
        "status": "done",
        "num_blocks": 9,
        "warm_up": "steady",
    }
    numbers = {"median_images_per_second": rate, "ci_low": rate - 5, "ci_high": rate + 5}
    return Timing(model=model, **(fields | numbers | changes))


@pytest.mark.parametrize(
    ("ours", "changes", "expected"),
    [
        (200.0, {}, "holds"),
        (50.0, {}, "fails"),
        (104.0, {}, "undecided"),  # intervals overlap
        (200.0, {"device": "cpu: a processor"}, "undecided"),  # the claim is about GPUs
        (200.0, {"scan_backend": "torch"}, "undecided"),  # a scan in plain torch is not what is called slow
        (200.0, {"status": "disagrees"}, "undecided"),
    ],
)
def test_timings_decide_what_is_faster(sources: Sources, ours: float, changes: dict[str, Any], expected: str) -> None:
    """On a CUDA device, both done, with the fused scan, intervals apart."""
    timings = (_timed("medspectralnet", ours), _timed("medmamba_t", 100.0, **changes))
    item = judged(dataclasses.replace(sources, timings=timings), "C018")
    assert item.outcome.verdict == expected
    overlaps = ours == 104.0  # timed: there is no other command than to time until it fits
    assert bool(item.outcome.needs) == (expected == "undecided" and not overlaps)
    assert ("optional stopping" in item.outcome.why) == overlaps


def test_one_slower_setting_fails_a_claim_of_speed(sources: Sources) -> None:
    """Every setting that both were timed on counts; memory, rate and batch gain are judged from the same rows."""
    small = [_timed("medspectralnet", 200.0), _timed("medmamba_t", 100.0)]
    large = [_timed(model, rate, batch_size=128) for model, rate in (("medspectralnet", 300.0), ("medmamba_t", 400.0))]

    def planted(*timings: Timing) -> Sources:
        return dataclasses.replace(sources, timings=timings)

    assert verdict(planted(*small, *large), "C018") == "fails"
    assert verdict(planted(*small, *large), "C164") == "fails"  # 1.5 times against 4
    assert verdict(planted(*small, *large), "C012") == "holds"
    assert verdict(planted(*small, *large), "C161") == "fails"  # as much memory
    slow = [
        _timed(t.model, 29.0, batch_size=t.batch_size, peak_memory_mib=memory)
        for t, memory in zip((*small, *large), (50.0, 100.0, 50.0, 100.0), strict=True)
    ]
    assert verdict(planted(*slow), "C012") == "not testable"
    assert verdict(planted(_timed("medspectralnet", 200.0, img_size=64)), "C012") == "undecided"  # another size
    assert verdict(planted(*slow), "C161") == "holds"
    faster = [
        dataclasses.replace(t, median_images_per_second=rate)
        for t, rate in zip((*small, *large), (100.0, 100.0, 500.0, 400.0), strict=True)
    ]
    assert verdict(planted(*faster), "C164") == "holds"
