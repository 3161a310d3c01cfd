"""Exports: what another format says is what the records say, and its own reader takes it."""

from __future__ import annotations

import json
import re
import sys
import uuid
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from bench import api
from bench.cli.app import main
from bench.errors import RecordError
from bench.records.card import read_card
from bench.records.names import Run
from bench.records.run_record import Record, read_records
from bench.report.exports.croissant import FILES
from bench.report.exports.files import EPOCH_VARIABLE, FORMATS
from tests.making import make_run

OWN = Path(__file__).parents[2] / "results"
RUNS = [Run("lite-96", name, "breastmnist", seed) for name in ("medspectralnet", "resnet18") for seed in (0, 1)]


@pytest.fixture
def records(tmp_path: Path) -> dict[Run, Record]:
    """Two models with two seeds, and a run on synthetic data, below `results`."""
    made = {run: make_run(tmp_path / "results", run) for run in RUNS}
    make_run(tmp_path / "results", Run("smoke", "resnet18_28", "synthetic-breastmnist", 0))
    return made


def mean(records: dict[Run, Record], model: str, metric: str) -> float:
    values = [float((record.test or {})[metric] or 0.0) for run, record in records.items() if run.model == model]
    return sum(values) / len(values)


def test_croissant_says_where_the_official_file_is(tmp_path: Path) -> None:
    """Address and MD5 are medmnist's own; synthetic data are described nowhere."""
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
        assert file["md5"] == info[path.stem][f"MD5{size}"] == card.md5
        assert content["license"].startswith("https://creativecommons.org/licenses/by")


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_croissant_s_own_reader_gives_the_card_back(tmp_path: Path) -> None:
    """It has no error and nothing to recommend; splits, classes, counts and digests of labels are the card's."""
    reader = pytest.importorskip("mlcroissant", reason="comes with the extra dev")
    for path in api.export("croissant", tmp_path, OWN):
        dataset, card = reader.Dataset(path), read_card(OWN, path.stem)
        assert card is not None
        issues = dataset.metadata.ctx.issues
        assert (issues.errors, issues.warnings) == (set(), set())
        splits = [{name.partition("/")[2]: value for name, value in row.items()} for row in dataset.records("splits")]
        assert {row["name"]: row["images"] for row in splits} == card.num_images
        assert {row["name"]: row["labels_sha256"] for row in splits} == card.labels_digest
        classes = list(dataset.records("classes"))
        assert [row["classes/name"] for row in classes] == card.class_names
        assert [row["classes/label"] for row in classes] == list(range(len(card.class_names)))
        for split, counts in card.class_counts.items():
            assert [row[f"classes/{split}"] for row in classes] == counts


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


def test_another_seed_replaces_a_model_s_file(tmp_path: Path, records: dict[Run, Record]) -> None:
    """Never two files of one model and protocol; another protocol has its own."""
    out = tmp_path / "out"
    before = api.export("every-eval-ever", out, tmp_path / "results")
    for run in (Run("lite-96", "resnet18", "breastmnist", 2), Run("medmnist-28", "resnet18", "breastmnist", 0)):
        make_run(tmp_path / "results", run)
    after = api.export("every-eval-ever", out, tmp_path / "results")
    assert sorted(out.rglob("*.json")) == sorted(after)
    assert set(before) < set(after)
    assert len(after) == 3


def test_every_exported_score_is_that_of_the_records_it_names(tmp_path: Path) -> None:
    """Over the repository's own records: value, seeds and number of images, found again by the digests alone."""
    records = {record.record_digest: record for record in read_records(OWN)[0]}
    named: set[str] = set()
    for path in api.export("every-eval-ever", tmp_path, OWN):
        content = json.loads(path.read_bytes())
        model = content["model_info"]
        for result in content["evaluation_results"]:
            details = result["score_details"]
            runs = [records[digest] for digest in details["details"]["record_digests"].split()]
            named |= {run.record_digest for run in runs}
            dataset, part, metric = result["evaluation_name"].split(", ")
            card = read_card(OWN, dataset)
            assert card is not None
            assert {(run.model, run.dataset, run.synthetic) for run in runs} == {(model["name"], dataset, False)}
            assert {run.protocol_digest for run in runs} == {model["additional_details"]["protocol_digest"]}
            assert details["details"]["seeds"] == " ".join(str(run.seed) for run in runs)
            twin_free = part != "official test"
            values = [(run.test_twin_free if twin_free else run.test) or {} for run in runs]
            assert details["score"] == pytest.approx(fmean(float(one[metric.lower()] or 0.0) for one in values))
            number = card.num_images["test"] - (len(card.twin_test_indices) if twin_free else 0)
            assert details["uncertainty"]["num_samples"] == number
            assert result["source_data"]["additional_details"] == {
                "md5": card.md5,
                "labels_sha256_test": card.labels_digest["test"],
            }
    assert {records[digest].model for digest in named} == {run.model for run in records.values() if run.test}


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
            value = {entry.task_id: entry.value for entry in entries}[f"breastmnist_{metric}_lite-96"]
            assert value == pytest.approx(mean(records, path.parts[-3], metric))


def test_a_task_of_the_hub_has_one_value(tmp_path: Path, records: dict[Run, Record]) -> None:
    """Scores under two protocols are two tasks, or one protocol is named."""
    make_run(tmp_path / "results", Run("medmnist-28", "resnet18", "breastmnist", 0))

    def tasks(**hub: str) -> set[str]:
        out = tmp_path / "out"
        files = api.export("eval-results", out, tmp_path / "results", benchmark="o/medmnist", **hub)
        (path,) = [path for path in files if path.parts[-3] == "resnet18"]
        return {entry["dataset"]["task_id"] for entry in yaml.safe_load(path.read_text(encoding="utf-8"))}

    both = {"breastmnist_acc_lite-96", "breastmnist_acc_medmnist-28"}
    assert {name for name in tasks() if "acc" in name} == both
    assert tasks(protocol="medmnist-28", task="{metric}") == {"acc", "auc"}
    with pytest.raises(RecordError, match="Task 'acc' of resnet18 would have two values"):
        tasks(task="{metric}")


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown format with those there are, a benchmark left out, and a folder of nothing real."""
    with pytest.raises(RecordError, match=f"Unknown format 'csv'; there are {', '.join(FORMATS)}"):
        api.export("csv", tmp_path / "out", OWN)
    make_run(tmp_path / "results", Run("smoke", "resnet18_28", "synthetic-breastmnist", 0))
    with pytest.raises(RecordError, match="give --benchmark owner/name"):
        api.export("eval-results", tmp_path / "out", tmp_path / "results")
    for kind in ("croissant", "every-eval-ever"):
        with pytest.raises(RecordError, match=f"holds nothing that {kind} describes"):
            api.export(kind, tmp_path / "out", tmp_path / "results")
    make_run(tmp_path / "results", RUNS[0])
    for hub, line in (
        ({"protocol": "mine"}, "No scores under 'mine'; there are some under lite-96"),
        ({"task": "{model}"}, "Cannot read --task '{model}'"),
        ({"task": "{metric"}, "Cannot read --task '{metric'"),
        ({"task": "{dataset[a]}"}, "Cannot read --task '{dataset[a]}'"),
    ):
        with pytest.raises(RecordError, match=re.escape(line)):
            api.export("eval-results", tmp_path / "out", tmp_path / "results", benchmark="o/n", **hub)
    monkeypatch.setenv(EPOCH_VARIABLE, "today")
    with pytest.raises(RecordError, match="SOURCE_DATE_EPOCH is 'today'; give whole seconds"):
        api.export("every-eval-ever", tmp_path / "out", tmp_path / "results")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["croissant"], 0, " files written to "),
        (["eval-results"], 2, "medbench: eval-results belong to a benchmark's data set on the Hub: give --benchmark"),
        (["csv"], 2, "medbench: Unknown format 'csv'; there are croissant, every-eval-ever, eval-results"),
        (["croissant", "--results", "nowhere"], 2, "medbench: There is no results folder nowhere"),
    ],
)
def test_the_command_writes_or_ends_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    line: str,
) -> None:
    """One line either way: how many files and where, or what is wrong."""
    monkeypatch.setattr(sys, "argv", ["medbench", "export", "--results", str(OWN), "--out", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == code
    printed = captured.err if code else captured.out
    assert line in printed
    assert printed.count("\n") == 1
