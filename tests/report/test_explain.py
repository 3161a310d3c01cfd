"""`medbench explain`: every printed cell leads back to its records, every empty one to a reason and a command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench.errors import BenchError, RecordError
from bench.records.names import Run
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.explain.scores import explain
from bench.report.tables import table3
from tests.making import make_run

OWN = Path(__file__).parents[2] / "results"
RUNS = [Run("lite-96", "resnet18", "breastmnist", seed) for seed in (0, 1)]
MORE = {
    "commit": "c" * 40,
    "dirty": True,
    "device": "cpu: a processor",
    "num_threads": 1,
    "packages": {"torch": "9.9"},
    "best_epoch": 7,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain") / "results"
    for run in RUNS:
        make_run(folder, run, **MORE)
    make_run(folder, Run("lite-96", "swin_t", "breastmnist", 0))
    make_run(folder, Run("smoke", "resnet18_28", "synthetic-breastmnist", 0))
    shutil.copytree(OWN / "costs" / "medvit_t", folder / "costs" / "medvit_t")
    return folder


def lines_of(store: Path, **changes: str) -> list[str]:
    return explain(
        store, **{"table": "table3", "model": "resnet18", "dataset": "breastmnist", "metric": "acc", **changes}
    )  # type: ignore[arg-type]


def value(lines: list[str], key: str) -> str:
    return next(line.split(key, 1)[1].strip() for line in lines if line.strip().startswith(key))


def test_a_cell_leads_back_to_its_records(store: Path) -> None:
    """The printed value, both seeds with digest, commit, hardware and packages, the formula, the published row."""
    lines = lines_of(store, protocol="lite-96")
    assert lines[0] == "table3: resnet18, breastmnist, acc, official test, protocol lite-96"
    records = [json.loads(run.path(store).read_bytes()) for run in RUNS]
    accs = [record["test"]["acc"] for record in records]
    assert value(lines, "printed").startswith(f"{sum(accs) / 2:.3f} ± {abs(accs[0] - accs[1]) / 2**0.5:.3f}")
    text = "\n".join(lines)
    for run, record in zip(RUNS, records, strict=True):
        assert f"run       {run.run_id}" in text
        assert f"file      {run.path(store).as_posix()}" in text
        assert f"digest    {record['record_digest']}" in text
        assert f"seed {run.seed}      {record['test']['acc']!r}, epoch 7 chosen on val" in text
    assert f"commit    {'c' * 40}, and the code differed from it" in text
    assert "hardware  cpu: a processor, 1 thread" in text
    assert "packages  torch 9.9" in text
    assert "n = 2, 24 images: mean over seeds ± sample standard deviation (n - 1)" in text
    assert value(lines, "published").startswith("0.833, ResNet-18 (224 px) (row P2")
    assert "MedMNIST v2" in value(lines, "source")


def test_the_printed_value_is_the_tables(store: Path) -> None:
    """What explain prints stands in Table 3 as it is."""
    evidence = gather(store)
    page = table3.render(evidence, analyse(evidence, synthetic=False), synthetic=False)["table3.md"].decode()
    printed = value(lines_of(store, protocol="lite-96"), "printed").split(" (")[0]
    assert f"[{printed}](" in page
    interval = value(lines_of(store, protocol="lite-96"), "interval").split(";")[0]
    assert f"| {interval} |" in page


def test_several_protocols_are_several_blocks(store: Path) -> None:
    """Those with records and those that a study plans, each with its own reason and command."""
    lines = lines_of(store)
    heads = [line for line in lines if line.startswith("table3: ")]
    assert [head.rpartition(" ")[2] for head in heads] == [
        "lite-96",
        "medmnist-224",
        "paper-224-imagenet",
        "paper-224-scratch",
    ]
    command = "medbench run --protocol medmnist-224 --models resnet18 --datasets breastmnist --seeds 0-2"
    assert f"  to fill it  {command}" in lines
    blocked = lines_of(store, model="medmamba_t", protocol="paper-224-imagenet")
    assert value(blocked, "because").startswith("paper-224-imagenet pins no public ImageNet-1k weights")
    assert not [line for line in blocked if "to fill it" in line]


def test_what_was_left_out_is_told(store: Path, tmp_path: Path) -> None:
    """A damaged and a stale record of the cell are named with the reason."""
    folder = tmp_path / "results"
    shutil.copytree(store, folder)
    RUNS[0].path(folder).write_text("{", encoding="utf-8")
    lines = lines_of(folder, protocol="lite-96")
    assert any("left out" in line and "seed0.json" in line for line in lines)
    assert "n = 1" in value(lines, "formula")
    make_run(folder, RUNS[1], model_fingerprint="1" * 64)
    RUNS[0].path(folder).unlink()
    lines = lines_of(folder, protocol="lite-96")
    assert any("left out" in line and RUNS[1].run_id in line and "changed" in line for line in lines)
    assert value(lines, "because").startswith("stale: the model's code")
    assert value(lines, "to fill it").endswith(" --overwrite stale")


def test_the_other_part_table_2_and_data_made_here(store: Path) -> None:
    """The twin-free part has no published number; ablations belong to Table 2; a stand-in is explained as itself."""
    lines = lines_of(store, part="test_twin_free", protocol="lite-96")
    assert "22 images" in value(lines, "formula")
    assert value(lines, "published") == "none is held for this cell"
    lines = lines_of(store, table="table2", model="medspectralnet")
    assert len([line for line in lines if line.startswith("table2: ")]) == 6
    lines = lines_of(store, model="resnet18_28", dataset="synthetic-breastmnist", protocol="smoke")
    assert "seed 0" in "\n".join(lines)


def test_table_4_leads_back_to_its_count(store: Path) -> None:
    """Counter, exact count, coverage, digest, the published number with its doubt; a missing one names the command."""
    lines = lines_of(store, table="table4", model="medvit_t", metric="thop", dataset="")
    record = json.loads((store / "costs" / "medvit_t" / "224-8.json").read_bytes())
    assert value(lines, "printed") == "5.929 GMACs"
    assert "5,928,626,592 MACs" in value(lines, "formula")
    assert value(lines, "digest") == record["record_digest"]
    assert "UNVERIFIED" in value(lines, "source")
    assert value(lines_of(store, table="table4", model="medvit_t", metric="params"), "printed") == "31.145 M parameters"
    missing = lines_of(store, table="table4", model="swin_t", metric="aten")
    assert value(missing, "to fill it") == "medbench measure costs --size 224 --num-classes 8 --models swin_t"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "tabel3"}, "Unknown table 'tabel3'; did you mean 'table3'?"),
        ({"model": "resnet81"}, "Unknown model 'resnet81'; did you mean 'resnet18'?"),
        ({"dataset": "breastmnst"}, "Unknown data set 'breastmnst'; did you mean 'breastmnist'?"),
        ({"metric": "accuracy"}, "Unknown metric 'accuracy'; "),
        ({"metric": "thop"}, "Unknown metric 'thop'; known: auc, acc"),
        ({"part": "tets"}, "Unknown part 'tets'; did you mean 'test'?"),
        ({"protocol": "lite"}, "Unknown protocol 'lite'; did you mean 'lite-96'?"),
        (
            {"protocol": "breast-ablation-sgd-plain"},
            "breast-ablation-sgd-plain is no protocol of table3; explain table2",
        ),
        ({"model": "medmamba_b"}, "No record has medmamba_b on breastmnist and no study plans it for table3"),
        ({"table": "table4", "model": "resnet81", "metric": "aten"}, "Unknown model 'resnet81'"),
    ],
)
def test_an_unknown_name_is_one_clear_line(store: Path, changes: dict[str, str], message: str) -> None:
    """With the closest known name, as an error that a user can fix."""
    with pytest.raises(BenchError) as caught:
        lines_of(store, **changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Is named."""
    with pytest.raises(RecordError, match="There is no results folder"):
        lines_of(tmp_path / "nowhere")
