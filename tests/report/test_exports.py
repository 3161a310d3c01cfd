"""Exports: what another format says is what the records say, and its own reader takes it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
import yaml

from bench import api
from bench.errors import RecordError
from bench.records.card import read_card
from bench.records.names import Run
from bench.records.run_record import Record
from bench.report.exports.croissant import FILES
from bench.report.exports.files import EPOCH_VARIABLE, FORMATS
from tests.making import make_run

OWN = Path(__file__).parents[2] / "results"
RUNS = [Run("lite-96", name, "breastmnist", seed) for name in ("medspectralnet", "resnet18") for seed in (0, 1)]


@pytest.fixture
def records(tmp_path: Path) -> dict[Run, Record]:
    """Two models with two seeds, and a run on data made here, below `results`."""
    made = {run: make_run(tmp_path / "results", run) for run in RUNS}
    make_run(tmp_path / "results", Run("smoke", "resnet18_28", "synthetic-breastmnist", 0))
    return made


def mean(records: dict[Run, Record], model: str, metric: str) -> float:
    values = [float((record.test or {})[metric] or 0.0) for run, record in records.items() if run.model == model]
    return sum(values) / len(values)


def test_croissant_says_where_the_official_file_is_and_what_is_in_it(tmp_path: Path) -> None:
    """Address and MD5 are medmnist's own, counts and class names the card's; made-up data is described nowhere."""
    info = pytest.importorskip("medmnist", reason="medmnist is not installed").INFO
    files = api.export("croissant", tmp_path, OWN)
    assert {path.stem for path in files} == {path.stem for path in (OWN / "data").glob("*.json")}
    for path in files:
        content, card = json.loads(path.read_bytes()), read_card(OWN, path.stem)
        assert card is not None
        (file,) = content["distribution"]
        size = "" if card.source_size == 28 else f"_{card.source_size}"
        assert f"{file['contentUrl']}?download=1" == info[path.stem][f"url{size}"]
        assert file["contentUrl"].startswith(FILES)
        assert file["md5"] == info[path.stem][f"MD5{size}"]
        splits, classes = content["recordSet"]
        assert {row["splits/name"]: row["splits/images"] for row in splits["data"]} == card.num_images
        assert [row["classes/name"] for row in classes["data"]] == card.class_names
        assert [row["classes/test"] for row in classes["data"]] == card.class_counts["test"]
        assert content["license"].startswith("https://creativecommons.org/licenses/by")


def test_every_eval_ever_has_a_file_a_model_and_protocol(
    tmp_path: Path, records: dict[Run, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means with intervals, the digests of the records behind them; the same file from the same records."""
    monkeypatch.setenv(EPOCH_VARIABLE, "1764374400")
    files = api.export("every-eval-ever", tmp_path / "out", tmp_path / "results")
    assert {path.parent.name for path in files} == {"medspectralnet", "resnet18"}
    for path in files:
        assert uuid.UUID(path.stem).version == 4
        content = json.loads(path.read_bytes())
        model = content["model_info"]["name"]
        results = {row["evaluation_name"]: row for row in content["evaluation_results"]}
        for metric in ("auc", "acc"):
            details = results[f"breastmnist, official test, {metric.upper()}"]["score_details"]
            assert details["score"] == pytest.approx(mean(records, model, metric))
            interval = details["uncertainty"]["confidence_interval"]
            assert 0 <= interval["lower"] <= details["score"] <= interval["upper"] <= 1
            assert interval["confidence_level"] == pytest.approx(0.95)
            digests = [record.record_digest for run, record in records.items() if run.model == model]
            assert details["details"] == {"seeds": "0 1", "record_digests": " ".join(digests)}
    before = {path: path.read_bytes() for path in files}
    again = api.export("every-eval-ever", tmp_path / "out", tmp_path / "results")
    assert {path: path.read_bytes() for path in again} == before


def test_the_hubs_own_reader_takes_the_evaluation_results(tmp_path: Path, records: dict[Run, Record]) -> None:
    """Every entry comes back as it was written, under the benchmark and the task that were given."""
    hub = pytest.importorskip("huggingface_hub", reason="comes with timm")
    files = api.export(
        "eval-results", tmp_path / "out", tmp_path / "results", benchmark="o/medmnist", source="https://example.org"
    )
    assert [path.relative_to(tmp_path / "out").as_posix() for path in files] == [
        "medspectralnet/.eval_results/breastmnist.yaml",
        "resnet18/.eval_results/breastmnist.yaml",
    ]
    for path in files:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = hub.parse_eval_result_entries(content)
        assert hub.eval_result_entries_to_yaml(entries) == content
        assert {entry.dataset_id for entry in entries} == {"o/medmnist"}
        for metric in ("auc", "acc"):
            value = {entry.task_id: entry.value for entry in entries}[f"breastmnist_{metric}"]
            assert value == pytest.approx(mean(records, path.parts[-3], metric))


def test_what_cannot_be_exported_is_one_line(tmp_path: Path) -> None:
    """An unknown format with those there are, a benchmark left out, and a folder of nothing real."""
    with pytest.raises(RecordError, match=f"Unknown format 'csv'; there are {', '.join(FORMATS)}"):
        api.export("csv", tmp_path / "out", OWN)
    make_run(tmp_path / "results", Run("smoke", "resnet18_28", "synthetic-breastmnist", 0))
    with pytest.raises(RecordError, match="give --benchmark owner/name"):
        api.export("eval-results", tmp_path / "out", tmp_path / "results")
    for kind in ("croissant", "every-eval-ever"):
        with pytest.raises(RecordError, match=f"holds nothing that {kind} describes"):
            api.export(kind, tmp_path / "out", tmp_path / "results")
    assert not (tmp_path / "out").exists()
