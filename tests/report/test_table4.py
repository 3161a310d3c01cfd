"""Table 4: counted beside published and claimed, MACs called MACs, one device a table of timings."""

from __future__ import annotations

import io
import itertools
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import RecordError
from bench.records.cost_record import CostCell, read_costs
from bench.records.sealed import write_sealed
from bench.records.timing_record import Round, Setting, TimingCell, TimingRecord, timing_path
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.published.names import model_name
from bench.report.tables import table4
from bench.report.tables.timings import _table, timing_blocks
from bench.report.tidy_costs import timing_rows
from models import get_spec
from models.catalog import fingerprint
from tests.making import make_timing

OWN = Path(__file__).parents[2] / "results"
CPU, GPU = "cpu: a processor, 1 thread", "cuda: a card"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The repository's cost records of a few models."""
    folder = tmp_path / "results"
    for name in ("medspectralnet", "medspectralnet_8m5", "medvit_t", "mobilevitv2_100", "medmamba_s_paper"):
        shutil.copytree(OWN / "costs" / name, folder / "costs" / name)
    return folder


def render(results: Path) -> dict[str, bytes]:
    evidence = gather(results)
    return table4.render(evidence, analyse(evidence, synthetic=False), synthetic=False)


def rows_of(text: str, caption: str) -> dict[str, list[str]]:
    lines = text.splitlines()
    start = lines.index(caption) + 2
    rows = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        rows[cells[0]] = cells
    return rows


def timing(model: str, device: str, rate: float, status: str = "done", scan: str = "torch") -> TimingRecord:
    """One cell of inference whose blocks all run at one rate."""
    setting = Setting(
        mode="inference", precision="fp32", memory_format="contiguous", compiled=False, batch_size=32, img_size=224
    )
    done = Round(index=0, status="done", iterations=1, block_seconds=[32 / rate] * 3)
    rounds = [done if status == "done" else Round(index=0, status=status, reason="no memory")]  # type: ignore[arg-type]
    cells = [TimingCell(setting=setting, rounds=rounds)]
    backend = scan if model.startswith("medmamba") else None
    current = fingerprint(get_spec(model))
    return make_timing(model, device, cells, model_fingerprint=current, scan_backend=backend).sealed()


def test_the_paper_claims_stand_beside_what_was_counted(results: Path) -> None:
    """2.00 G and 8.5 M, judged on the text as written, the shorter reading beside it; differences by hand."""
    text = render(results)["table4.md"].decode()
    rows = rows_of(text, "MedSpectralNet, claimed and counted (224 px, K = 8)")
    counted = {r.model: r for r in read_costs(results)[0] if (r.img_size, r.num_classes) == (224, 8)}
    judged, beside = (counted[name].num_params / 1e6 for name in ("medspectralnet", "medspectralnet_8m5"))
    expected = ["8.50", f"{judged:.3f}", f"{100 * (judged / 8.5 - 1):+.1f}", f"{beside:.3f}"]
    assert rows["parameters (M)"][1:5] == expected
    gmacs = counted["medspectralnet"].count("thop").macs / 1e9
    difference = f"{100 * (gmacs / 2 - 1):+.1f}".replace("-", "−")
    assert rows["GMACs, thop"][1:4] == ["2.00", f"{gmacs:.3f}", difference]
    assert "The claim is judged on `medspectralnet`" in text


def test_macs_are_called_macs(results: Path) -> None:
    """The head says what the literature's GFLOPs are; no column and no caption is called FLOPs; K and px are stated."""
    text = render(results)["table4.md"].decode()
    assert 'what the literature prints as "GFLOPs" for these models are GMACs' in text
    assert "224 px with 3 channels and K = 8 classes" in text
    lines = text.splitlines()
    headers = [line for line, rule in itertools.pairwise(lines) if line.startswith("| ") and rule.startswith("| --")]
    assert len(headers) == 3
    assert not any("FLOP" in header for header in headers)


def test_every_network_has_a_row_and_what_is_not_counted_says_so(results: Path) -> None:
    """A missing count is a gap with the command that fills it; an unverified quote is marked; notes name the depths."""
    text = render(results)["table4.md"].decode()
    rows = rows_of(text, "Parameters (M) and GMACs, 224 px, K = 8")
    assert set(map(model_name, table4.own_networks())) == {
        name for name in rows if name != "model" and "---" not in name
    }
    assert rows["Swin-T"][2] == "–"
    assert "`medbench measure costs --size 224 --num-classes 8 --models " in text
    assert rows["MedViT-T"][1] == "10.8 (PC45, unverified)"
    assert rows["MedMamba-S at the paper's depth"][1].startswith("23.5 (PC")
    assert "- MedViT-T: 10.8 M parameters quoted for MedViT-T (not verified), 31.1 M counted in the release" in text
    assert "beside it stands what was printed for MedMamba-S." in text


def test_a_count_for_another_size_has_no_difference(results: Path) -> None:
    """1.84 GMACs at 256 px say nothing about 224 px; parameters do not depend on it."""
    rows = rows_of(render(results)["table4.md"].decode(), "Parameters (M) and GMACs, 224 px, K = 8")
    row = rows["MobileViTv2-1.0"]
    assert row[4] == "1.84 at 256 px (PC22)"
    assert (row[6], row[8], row[10]) == ("", "", "")
    assert row[3] == "−10.3"


def test_the_csv_holds_every_k_and_the_records_numbers(results: Path) -> None:
    """One row a counter; coverage is a fraction; published and counted are columns apart, with the source."""
    content = render(results)["table4.csv"]
    assert content.startswith(b"# medbench report")
    frame = pd.read_csv(io.BytesIO(content), comment="#")
    assert list(frame.columns) == table4.COLUMNS
    assert set(frame["num_classes"]) == {2, 7, 8, 11}
    assert frame["coverage"].between(0, 1).all()
    record = next(r for r in read_costs(results)[0] if (r.model, r.img_size, r.num_classes) == ("medvit_t", 224, 8))
    own = frame[(frame["model"] == "medvit_t") & (frame["img_size"] == 224) & (frame["num_classes"] == 8)]
    row = own[own["counter"] == "thop"].iloc[0]
    assert row["gmacs"] == record.count("thop").macs / 1e9
    assert row["record_digest"] == record.record_digest
    assert "UNVERIFIED" in row["published_source"]
    assert row["params_difference_percent"] == pytest.approx(100 * (31.14464 - 10.8) / 10.8)


def test_a_cpu_and_a_gpu_never_share_a_column(results: Path) -> None:
    """Each device has a table of its own; one that mixed them would be refused; failures say so and have no number."""
    for record in (timing("medvit_t", CPU, 10.0), timing("medvit_t", GPU, 900.0), timing("swin_t", CPU, 1.0, "oom")):
        write_sealed(timing_path(results, record.device, record.model), record)
    text = render(results)["table4.md"].decode()
    rows = rows_of(text, f"Images per second, inference, 224 px, {CPU}")
    assert rows["MedViT-T"][1] == "10.0 (10.0–10.0)"
    assert rows["Swin-T"][1] == "oom"
    assert not [cells for cells in rows.values() if "900" in " ".join(cells)]
    assert rows_of(text, f"Images per second, inference, 224 px, {GPU}")["MedViT-T"][1] == "900.0 (900.0–900.0)"
    with pytest.raises(RecordError, match="2 devices"):
        _table(timing_rows([timing("medvit_t", CPU, 10.0), timing("medvit_t", GPU, 900.0)]))
    assert timing_blocks([]) == []


def test_two_scans_of_a_model_are_two_rows(results: Path) -> None:
    """MedMamba with mamba-ssm's kernel and without; a model that has no scan has a dash. Few blocks are named."""
    kernel, plain = timing("medmamba_t", GPU, 90.0, scan="mamba_ssm"), timing("medmamba_t", GPU, 9.0)
    write_sealed(timing_path(results, GPU, "medmamba_t"), kernel)
    write_sealed(timing_path(results, GPU, "medmamba_t", "torch"), plain)
    write_sealed(timing_path(results, GPU, "resnet18"), timing("resnet18", GPU, 300.0))
    text = render(results)["table4.md"].decode()
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| Med")]
    assert ["MedMamba-T", "90.0 (90.0–90.0)", "mamba_ssm"] in found
    assert ["MedMamba-T", "9.00 (9.00–9.00)", "torch"] in found
    assert rows_of(text, f"Images per second, inference, 224 px, {GPU}")["ResNet-18"][-1] == "–"
    assert "Fewer than 30 blocks in all rounds" in text


def test_no_timing_no_columns(results: Path) -> None:
    """Without a timing record nothing is stated about speed."""
    assert "Images per second" not in render(results)["table4.md"].decode()


def test_data_made_here_has_no_table_4(results: Path) -> None:
    """Costs know no data set: no stamped twin of the table exists."""
    evidence = gather(results)
    assert table4.render(evidence, analyse(evidence, synthetic=True), synthetic=True) == {}


def test_the_links_lead_to_the_cost_records(results: Path) -> None:
    """From reports/ beside results/."""
    text = render(results)["table4.md"].decode()
    target = f"../{CostCell('medvit_t', 224, 8).path(Path('results')).as_posix()}"
    assert f"]({target})" in text
    assert (results.parent / target.removeprefix("../")).exists()
