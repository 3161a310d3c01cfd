"""Published numbers: carried over with their sources, fractions only, one row beside ours."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pandas as pd
import pytest

from bench.data.names import PAPER_DATASETS
from bench.errors import RecordError
from bench.report.analysis_plan import NUM_TEST_SCANS
from bench.report.formats import Table
from bench.report.published.independence import independence, independences
from bench.report.published.numbers import (
    FOLDER,
    LINEAR_PROBE,
    NAMESAKES,
    published_costs,
    published_scores,
    quoted_cost,
    read_scores,
    reference_score,
)
from bench.report.published.rows import published_blocks
from bench.report.site.datasets import data_problems
from models import list_models
from tests.making import make_card


def test_every_published_number_has_a_source() -> None:
    """No value without saying where it stands; data sets are flags, scores fractions, costs as printed."""
    scores, costs = published_scores(), published_costs()
    assert all(len(row.source) > 3 for row in (*scores, *costs))
    assert len({astuple(row) for row in (*scores, *costs)}) == len(scores) + len(costs)
    assert all(0 <= score.value <= 1 for score in scores)
    assert {score.dataset for score in scores} == set(PAPER_DATASETS)
    assert {score.metric for score in scores} == {"auc", "acc"}
    assert {cost.source_kind for cost in costs} == {"published", "measured elsewhere", "claimed"}


def test_values_and_sources_are_the_files() -> None:
    """Reading changes no value and no source, and drops no score."""
    raw, scores = pd.read_csv(FOLDER / "results.csv"), published_scores()
    assert [score.value for score in scores] == raw["value"].tolist()
    assert [score.source for score in scores] == raw["source"].tolist()
    claimed = quoted_cost("medspectralnet")
    assert claimed is not None
    assert (claimed.num_params_m, claimed.gmacs, claimed.source_kind) == (8.5, 2.0, "claimed")


def test_only_registered_models_are_named() -> None:
    """A published row is about a model that exists, or about none; a model has one quoted cost, of its own rows."""
    scores, costs = published_scores(), published_costs()
    known = {"", *list_models()}
    assert {*(row.medbench_model for row in (*scores, *costs)), *NAMESAKES, *NAMESAKES.values()} <= known
    assert {score.start for score in scores} == {"", "imagenet"}
    quoted = [cost.medbench_model for cost in costs if cost.quoted]
    assert len(set(quoted)) == len(quoted)
    assert set(quoted) == {cost.medbench_model for cost in costs} - {""}


@pytest.mark.parametrize(
    ("model", "protocol", "value"),
    [
        ("resnet18", "lite-96", 0.833),
        ("resnet18", "paper-224-scratch", 0.833),
        ("resnet18", "paper-224-imagenet", 0.8718),
        ("resnet18", "a-protocol-of-my-own", 0.833),
        ("resnet18_28", "medmnist-28", 0.863),
        ("medspectralnet", "lite-96", 0.865),
        ("medspectralnet_8m5", "lite-96", 0.865),
        ("medmamba_b_paper", "lite-96", 0.891),
        ("swin_t", "lite-96", None),
        ("floor/prior", "lite-96", None),
    ],
)
def test_the_row_beside_ours(model: str, protocol: str, value: float | None) -> None:
    """One rule: rows of the model, pretrained beside pretrained, a second reading beside its name's."""
    found = reference_score(model, "breastmnist", "acc", protocol)
    assert (found.value if found else None) == value


def test_data_made_here_has_no_published_score() -> None:
    """A synthetic set is not the set that it stands in for."""
    assert reference_score("resnet18", "breastmnist", "auc", "demo") is not None
    assert reference_score("resnet18", "synthetic-breastmnist", "auc", "demo") is None


def test_a_percentage_among_the_fractions_is_refused(tmp_path: Path) -> None:
    """86.5 beside 0.865 would be a wrong number in every table."""
    path = tmp_path / "results.csv"
    raw = pd.read_csv(FOLDER / "results.csv")
    raw.loc[3, "value"] = 86.5
    raw.to_csv(path, index=False)
    with pytest.raises(RecordError, match=r"ResNet-18 has 86.5, which is no fraction; write it in \[0, 1\]"):
        read_scores(path)


def test_every_set_s_source_is_asked_for_independence() -> None:
    """The paper's six, each with a statement, a source and what was read of it; the page warns where images repeat."""
    known = independences()
    assert set(known) == set(PAPER_DATASETS)
    assert all(own.statement and own.source and own.read and own.url.startswith("https://") for own in known.values())
    assert {name for name, own in known.items() if own.warning} == set(PAPER_DATASETS) - {"pneumoniamnist"}
    assert NUM_TEST_SCANS.keys() <= {name for name, own in known.items() if own.unit == "CT scan"}
    assert independence("synthetic-breastmnist") is None
    assert "several images per patient (780 images of 600 patients" in data_problems(make_card("breastmnist"))[0]


def test_linear_probes_stand_apart_and_beside_nothing_of_ours() -> None:
    """Tables of their own that hold every probe and no other row; none is about a model of the suite."""
    probes = [score for score in published_scores() if score.kind == LINEAR_PROBE]
    assert {score.model for score in probes} >= {"DINO ViT-B/16", "ResNet-18", "AlexNet", "SAM ViT-B/16"}
    assert not any(score.medbench_model for score in probes)
    assert all(("linear probe" in score.variant) == (score.kind == LINEAR_PROBE) for score in published_scores())
    tables = [block for block in published_blocks(set()) if isinstance(block, Table)]
    assert ["linear probes" in table.caption for table in tables] == [False, False, True, True]
    for table in tables:
        names = [str(row.cells[1]) for row in table.rows]
        assert {"linear probe" in name for name in names} == {"linear probes" in table.caption}


@pytest.mark.parametrize(
    ("model", "variant", "percent"),
    [
        ("DINO ViT-B/16", "MedMNIST+ linear probe", 89.18),
        ("ResNet-18", "MedMNIST+ e2e pretrained", 89.00),
    ],
)
def test_what_was_read_by_eye_gives_the_means_known_elsewhere(model: str, variant: str, percent: float) -> None:
    """Accuracy at 224 px, mean over the six sets."""
    rows = [
        s for s in published_scores() if (s.model, s.variant, s.metric, s.resolution) == (model, variant, "acc", 224)
    ]
    assert {row.dataset for row in rows} == set(PAPER_DATASETS)
    assert round(100 * sum(row.value for row in rows) / 6, 2) == percent
