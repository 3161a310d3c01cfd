"""Parameters and MACs: known counts, what each counter misses, and records that answer without torch."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from bench.errors import RecordError
from bench.measure.costs import count as costs
from bench.measure.costs import explanation
from bench.measure.costs.counters import count_network, count_thop
from bench.measure.costs.operators import scan_flops
from bench.records import cost_record
from bench.records.cost_record import CostCell, CostRecord, Count
from bench.records.sealed import read_sealed, write_sealed
from bench.report.tidy_costs import COST_COLUMNS, cost_rows
from models import catalog, create_model, load_plugin

ROOT = Path(__file__).parents[2]
# thop at 224 px, GMACs: published with their source in the reference tables of this field.
KNOWN_GMACS = {
    "resnet18": 1.824,
    "resnet50": 4.132,
    "swin_t": 4.371,
    "convnext_t": 4.455,
    "medmamba_t": 2.024,
    "medvit_t": 5.929,  # S and L: tests/models/test_medvit_macs.py
}
TINY = '''
import torch
from torch import nn
from models import register_model

@register_model(num_params=60)
def tiny_costs(*, num_classes: int, in_chans: int = 3, img_size: int = 224, pretrained: bool = False) -> nn.Module:
    """A convolution without bias, pooled to logits."""
    return nn.Sequential(nn.Conv2d(in_chans, num_classes, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
'''


class Net(nn.Module):
    """A model whose forward is a function of the model and its (1, 3, H, W) images."""

    def __init__(self, forward: Callable[[Net, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Whatever the test says."""
        return self._forward(self, x_BCHW)


def counts_of(build: Callable[[], nn.Module], img_size: int = 4) -> dict[str, Count]:
    """The three counts of a model by counter; each copy is built where the counter wants it."""

    def fresh(device: str) -> nn.Module:
        with torch.device(device):
            return build().eval()

    return {count.counter: count for count in count_network(fresh, img_size)[1]}


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A file with one tiny model, known to the catalogue for the length of a test."""
    before = dict(catalog._plugins)
    file = tmp_path / "tiny_costs_plugin.py"
    file.write_text(TINY, encoding="utf-8")
    load_plugin(file)
    yield file
    catalog._plugins.clear()
    catalog._plugins.update(before)
    sys.modules.pop("_medbench_plugin_tiny_costs_plugin", None)


@pytest.mark.parametrize("name", sorted(KNOWN_GMACS))
def test_thop_lands_on_the_known_value(name: str) -> None:
    """thop counts the registered model as others counted it, within 0.5 %."""
    with torch.device("meta"):
        model = create_model(name, num_classes=8).eval()
    macs = count_thop(model, torch.zeros(1, 3, 224, 224, device="meta"))
    assert macs / 1e9 == pytest.approx(KNOWN_GMACS[name], rel=0.005)


def test_a_hand_counted_network() -> None:
    """A convolution and a linear layer: 3*5*9*16 + 80*4 products, nothing else is multiplied in `aten`."""
    net = counts_of(lambda: nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten(), nn.Linear(80, 4)))
    assert net["aten"].macs == net["thop"].macs == 3 * 5 * 9 * 16 + 80 * 4
    assert net["aten"].macs_by_operator == {"convolution": 2160, "addmm": 320}
    assert net["ptflops"].macs == 2160 + 320 + 80 + 4  # ptflops adds the biases
    assert net["ptflops"].added_macs == 84
    assert net["aten"].coverage == net["thop"].coverage == net["ptflops"].coverage == 1.0


def test_an_uncounted_operator_shows_in_coverage() -> None:
    """Half of the output elements come from a cumulative sum: coverage is a half, and the operator is named."""
    net = counts_of(lambda: Net(lambda net, x: net.linear(x.flatten(1)).cumsum(1), linear=nn.Linear(48, 4)))
    for count in net.values():
        assert count.coverage == 0.5
        assert [(use.name, use.calls, use.output_elements) for use in count.uncounted] == [("cumsum", 1, 4)]


def test_attention_is_seen_by_aten_and_its_absence_elsewhere_is_explained() -> None:
    """Fused attention counts 2 * heads * N * N * D in `aten`; thop and ptflops say in one line that they miss it."""

    def forward(net: Net, x: Tensor) -> Tensor:
        tokens = net.qkv(x.flatten(2).transpose(1, 2)).view(1, 16, 3, 2, 8).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(*tokens).sum((1, 2))

    net = counts_of(lambda: Net(forward, qkv=nn.Linear(3, 48)))
    assert net["aten"].macs == 16 * 3 * 48 + 2 * 2 * 16 * 16 * 8
    for counter in ("thop", "ptflops"):
        assert net[counter].missed_macs == {"bmm": 8192}
        assert net[counter].explanation.startswith(f"{counter} leaves out 8,192 MACs (bmm 8,192)")
    assert net["aten"].explanation == ""


def test_the_encoder_fast_path_hides_nothing() -> None:
    """nn.MultiheadAttention in evaluation counts its products: 3 + 1 projections and 2 products a head."""

    def forward(net: Net, x: Tensor) -> Tensor:
        tokens = x.flatten(2)  # (1, 3, 16)
        return net.attention(tokens, tokens, tokens, need_weights=False)[0].flatten(1)

    net = counts_of(lambda: Net(forward, attention=nn.MultiheadAttention(16, 2, batch_first=True)))
    assert net["aten"].macs == 4 * 3 * 16 * 16 + 2 * 3 * 3 * 16
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_layer_inside_a_counted_module_is_not_called_counted() -> None:
    """ptflops has a rule for timm's attention and forgets the layers inside: the ledger says so."""

    def forward(net: Net, x: Tensor) -> Tensor:
        return net.attention(x.flatten(2)).flatten(1)

    net = counts_of(lambda: Net(forward, attention=Attention(16, num_heads=2)))
    assert net["ptflops"].missed_macs["addmm"] == 4 * 3 * 16 * 16 - net["ptflops"].missed_macs.get("mm", 0)
    assert net["thop"].missed_macs == {"bmm": 2 * 3 * 3 * 16}


def test_the_scan_formula_by_hand() -> None:
    """9 L D N + L D: 2 samples, D = 6 rows, L = 5, N = 4 give 2 * (1080 + 30) FLOPs."""
    assert scan_flops([2, 6, 5], [2, 6, 5], [6, 4]) == 2 * (9 * 5 * 6 * 4 + 5 * 6)


def test_medmamba_counts_its_scan_once() -> None:
    """`aten` counts 2.242 G without the scan and 742,103,040 FLOPs in it; the others count none of it."""
    cell = CostCell("medmamba_t", 224, 8)
    from bench.measure.costs.counters import count_model

    record = count_model(cell)
    aten, ptflops = record.count("aten"), record.count("ptflops")
    assert aten.macs_by_operator["selective_scan"] == 742_103_040 // 2
    assert aten.macs == 2_241_744_384 + 742_103_040 // 2
    assert aten.added_macs == 0
    assert ptflops.missed_macs == {"selective_scan": 742_103_040 // 2}
    assert "selective_scan 0.371 G" in ptflops.explanation
    assert record.num_params == catalog.get_spec("medmamba_t").num_params


def test_counts_within_two_percent_need_no_explanation() -> None:
    """The line is for differences above 2 %, and names both what is left out and what is added."""

    def count(counter: str, macs: int, **fields: object) -> Count:
        empty = {"uncounted": [], "macs_by_operator": {}, "missed_macs": {}, "added_macs": 0, "added_for": []}
        return Count.model_validate(
            {"counter": counter, "version": "1", "device": "cpu", "macs": macs, "coverage": 1.0, **empty, **fields}
        )

    assert [c.explanation for c in explanation.explained([count("thop", 1_019), count("aten", 1_000)])] == ["", ""]
    thop = count(
        "thop", 2_000_000_000, missed_macs={"bmm": 10**9}, added_macs=5 * 10**8, added_for=["native_layer_norm"]
    )
    rows = explanation.explained([thop, count("ptflops", 2_500_000_000), count("aten", 2_500_000_000)])
    assert rows[0].explanation == (
        "thop leaves out 1.000 GMACs (bmm 1.000 G)"
        " and adds 0.500 GMACs that aten counts as 0 (most in native_layer_norm)"
    )


@settings(max_examples=15, deadline=None)
@given(
    groups=st.integers(1, 3),
    chans=st.integers(1, 3),
    kernel=st.sampled_from([1, 3]),
    img_size=st.integers(4, 9),
    bias=st.booleans(),
)
def test_any_convolution_counts_its_products(groups: int, chans: int, kernel: int, img_size: int, bias: bool) -> None:
    """out * in / groups * k^2 a position, by all counters alike, with the bias in ptflops alone."""
    out = groups * chans * 2

    def build() -> nn.Module:
        first = nn.Conv2d(3, groups * chans, 1, bias=False)
        return nn.Sequential(
            first, nn.Conv2d(groups * chans, out, kernel, padding=kernel // 2, groups=groups, bias=bias)
        )

    net = counts_of(build, img_size)
    expected = img_size**2 * (3 * groups * chans + out * chans * kernel**2)
    assert net["aten"].macs == net["thop"].macs == expected
    assert net["ptflops"].macs == expected + bias * out * img_size**2


def test_counting_leaves_no_trace_on_the_model_that_is_trained() -> None:
    """Each counter gets a copy of its own; the trained model keeps its tensors, hooks and attributes."""
    trained = create_model("resnet18", num_classes=2, img_size=32).eval()
    state = {key: value.clone() for key, value in trained.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in trained.named_modules()}
    functions = [F.relu, F.softmax, torch.matmul, torch.Tensor.add]
    copies: list[nn.Module] = []

    def build(device: str) -> nn.Module:
        copies.append(copy.deepcopy(trained).to(device))
        return copies[-1]

    count_network(build, 32)
    assert len({id(model) for model in copies}) == 3
    assert {key: value.shape for key, value in trained.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert all(torch.equal(value, state[key]) for key, value in trained.state_dict().items())
    assert {name: set(vars(module)) for name, module in trained.named_modules()} == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trained.modules())
    assert [F.relu, F.softmax, torch.matmul, torch.Tensor.add] == functions
    assert any("total_ops" in key for key in copies[0].state_dict()), "thop's traces are what this test looks for"


def test_a_model_that_looks_at_values_is_counted_on_real_tensors() -> None:
    """Where shapes do not suffice the copy runs on the CPU, and the count is the same."""

    def forward(net: Net, x: Tensor) -> Tensor:
        return net.conv(x) * (1.0 if float(x.sum()) < 1 else 2.0)

    net = counts_of(lambda: Net(forward, conv=nn.Conv2d(3, 2, 1)))
    assert [net[counter].device for counter in cost_record.COUNTERS] == ["cpu", "cpu", "cpu"]
    assert net["aten"].macs == net["thop"].macs == 16 * 3 * 2


def test_a_tied_tensor_counts_once() -> None:
    """Two layers that share a weight hold it once; frozen values and buffers are told apart."""
    from bench.measure.costs.counters import measure_sizes

    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    norm = nn.BatchNorm1d(4).requires_grad_(False)
    assert measure_sizes(nn.Sequential(first, second, norm)) == (16 + 8, 16, 4 + 4 + 1)


def test_two_counts_agree_and_the_second_is_read(plugin: Path, tmp_path: Path) -> None:
    """The second call reads the record; counting again gives the same record; another size is another record."""
    cells = [CostCell("tiny_costs", 8, 4)]
    first = next(costs.measure_costs(cells, tmp_path))
    second = next(costs.measure_costs(cells, tmp_path))
    again = next(costs.measure_costs(cells, tmp_path, overwrite=True))
    assert [outcome.source for outcome in (first, second, again)] == ["measured", "recorded", "measured"]
    assert first.record == second.record
    assert first.record is not None
    assert again.record is not None
    assert first.record.counts == again.record.counts
    assert first.record.count("aten").macs == 8 * 8 * 3 * 4
    assert cost_record.recorded(CostCell("tiny_costs", 16, 4), tmp_path) is None


def test_a_changed_model_is_counted_again(plugin: Path, tmp_path: Path) -> None:
    """A comment changes nothing; code makes the record stale. What a report knows does not depend on the plugin."""
    cell = CostCell("tiny_costs", 8, 4)
    next(costs.measure_costs([cell], tmp_path))
    plugin.write_text(TINY + "# a comment\n", encoding="utf-8")
    assert cost_record.recorded(cell, tmp_path) is not None
    plugin.write_text(TINY.replace("1, bias=False", "3, padding=1, bias=False"), encoding="utf-8")
    assert cost_record.recorded(cell, tmp_path) is None
    records, notes = cost_record.read_costs(tmp_path)
    assert [record.model for record in records] == ["tiny_costs"]
    assert notes == []


def test_a_count_of_the_suites_older_code_is_left_out(plugin: Path, tmp_path: Path) -> None:
    """With a note that says so."""
    next(costs.measure_costs([CostCell("tiny_costs", 8, 4)], tmp_path))
    record = read_sealed(CostCell("tiny_costs", 8, 4).path(tmp_path), CostRecord)
    ours = record.model_copy(update={"model": "resnet18", "model_fingerprint": "0" * 64})
    write_sealed(CostCell("resnet18", 8, 4).path(tmp_path), ours)
    records, notes = cost_record.read_costs(tmp_path)
    assert [record.model for record in records] == ["tiny_costs"]
    assert "stale, the code of resnet18" in notes[0]


def test_a_changed_record_is_refused(plugin: Path, tmp_path: Path) -> None:
    """A number edited by hand does not survive its digest; neither does a record that was moved."""
    cell = CostCell("tiny_costs", 8, 4)
    next(costs.measure_costs([cell], tmp_path))
    path = cell.path(tmp_path)
    record = read_sealed(path, CostRecord)
    write_sealed(path.with_name("16-4.json"), record)
    assert "belongs elsewhere" in cost_record.read_costs(tmp_path)[1][0]
    path.write_text(path.read_text(encoding="utf-8").replace('"num_params": 12', '"num_params": 13'), encoding="utf-8")
    with pytest.raises(RecordError, match="record_digest"):
        read_sealed(path, CostRecord)
    assert cost_record.recorded(cell, tmp_path) is None


def test_a_size_that_a_model_cannot_take_is_told(tmp_path: Path) -> None:
    """The other cells go on, fitted models are left out, and the reason is one line."""
    cells = costs.expand_costs(["convnext_t", "floor/prior"], [8], [4])
    outcome = next(costs.measure_costs(cells, tmp_path))
    assert len(cells) == 1
    assert outcome.source == "refused"
    assert "8 px" in outcome.reason
    assert "\n" not in outcome.reason


def test_a_model_that_does_not_run_is_told(plugin: Path, tmp_path: Path) -> None:
    """A plugin with a wrong shape is one line with the model's name, and the other cells go on."""
    plugin.write_text(TINY.replace("nn.Conv2d(in_chans,", "nn.Conv2d(5,"), encoding="utf-8")
    outcome = next(costs.measure_costs([CostCell("tiny_costs", 8, 4)], tmp_path))
    assert outcome.source == "refused"
    assert outcome.reason.startswith("tiny_costs: the model does not run at 8 px: ")
    assert "\n" not in outcome.reason
    assert list(tmp_path.rglob("*.json")) == []


def test_recorded_costs_need_no_torch(plugin: Path, tmp_path: Path) -> None:
    """The command answers from the record where no heavy package can be imported, within 3 s of CPU time."""
    next(costs.measure_costs([CostCell("tiny_costs", 8, 4)], tmp_path))
    arguments = ["medbench", "measure", "costs", "--models", "tiny_costs", "--size", "8", "--num-classes", "4"]
    arguments += ["--results", str(tmp_path), "--plugin", str(plugin)]
    code = f"""
import resource, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"torch", "timm", "thop", "ptflops", "medmnist", "kornia"}}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
sys.argv = {arguments!r}
from bench.cli.app import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert used.ru_utime + used.ru_stime < 3.0
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "recorded" in done.stdout


def test_the_cost_table_has_one_row_a_counter(plugin: Path, tmp_path: Path) -> None:
    """Columns as the suite documents them, MACs in G, coverage a fraction."""
    record = next(costs.measure_costs([CostCell("tiny_costs", 8, 4)], tmp_path)).record
    assert record is not None
    table = cost_rows([record])
    assert list(table.columns) == COST_COLUMNS
    assert COST_COLUMNS == [
        "model",
        "img_size",
        "in_chans",
        "num_classes",
        "counter",
        "gmacs",
        "num_params",
        "coverage",
    ]
    assert list(table["counter"]) == list(cost_record.COUNTERS)
    assert table["gmacs"].iloc[2] == 8 * 8 * 3 * 4 / 1e9
    assert cost_rows([]).empty


def test_a_model_that_no_counter_takes_does_not_hide_the_others(plugin: Path, tmp_path: Path) -> None:
    """Weights that have no size yet are one line; the next model is counted."""
    plugin.write_text(TINY.replace("nn.Flatten())", "nn.Flatten(), nn.LazyLinear(num_classes))"), encoding="utf-8")
    cells = [CostCell("tiny_costs", 8, 4), CostCell("resnet18_28", 28, 4)]
    lazy, counted = costs.measure_costs(cells, tmp_path)
    assert lazy.source == "refused"
    assert lazy.reason.startswith("tiny_costs: cannot be counted (")
    assert "\n" not in lazy.reason
    assert counted.source == "measured"
