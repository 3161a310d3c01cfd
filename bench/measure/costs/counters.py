"""The three MAC counters and what each of them sees, each on a fresh copy of the model.

thop and ptflops are taken as they are: they hook modules by type (ptflops also replaces functions while it
counts), so attention called as a function, einsum and the selective scan escape them. `aten` is torch's
FlopCounterMode with the attention in its plain kernel, so that its products are seen, and with a formula for the
scan. A `Ledger` runs beside a count and lists every executed operator and whether the counter covers it.

Only shapes matter, so copies live on the `meta` device where the model can. ptflops runs on real tensors: on
`meta`, torch works out shapes in Python, with functions that ptflops replaces, and the count would double.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import __version__
from bench.errors import BenchError
from bench.machine import provenance
from bench.machine.foreign import create, restored
from bench.measure.costs.explanation import explained
from bench.measure.costs.operators import SCAN, Kind, Ledger, Scope, scan_flops
from bench.records.cost_record import IN_CHANS, CostCell, CostRecord, Count, Counter, OperatorUse
from models import fingerprint, get_spec

with warnings.catch_warnings():  # thop asks distutils for its version check
    warnings.simplefilter("ignore")
    from ptflops import get_model_complexity_info, pytorch_engine
    from thop.profile import profile

Device = Literal["meta", "cpu"]


def _build(cell: CostCell, device: Device) -> nn.Module:
    """The model; what its weights are counts for nothing."""
    options = {"num_classes": cell.num_classes, "in_chans": IN_CHANS, "img_size": cell.img_size}
    with restored(), torch.device(device):
        return create(cell.model, seed=0, **options).eval()


def _images(img_size: int, device: Device) -> Tensor:
    return torch.zeros(1, IN_CHANS, img_size, img_size, device=device)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as products and a softmax: fused kernels and the encoder's fast path count as nothing."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def count_thop(model: nn.Module, x_BCHW: Tensor) -> int:
    """MACs by thop; leaves hooks and buffers on the model, so give it a copy that is used for nothing else."""
    with contextlib.redirect_stdout(io.StringIO()):
        macs, _ = profile(model, inputs=(x_BCHW,), verbose=False)
    return int(macs)  # a float that holds a whole number


def count_ptflops(model: nn.Module, x_BCHW: Tensor, scope: Scope) -> int:
    """MACs by ptflops' `pytorch` backend; leaves attributes on the model, so give it a copy.

    Raises:
        BenchError: If ptflops cannot run the model.
    """

    class Traced(pytorch_engine.torch_function_wrapper):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            scope.functions += 1
            try:
                return super().__call__(*args, **kwargs)
            finally:
                scope.functions -= 1

    output = io.StringIO()
    with (
        mock.patch.object(pytorch_engine, "torch_function_wrapper", Traced),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        torch.no_grad(),
    ):
        macs, _ = get_model_complexity_info(
            model,
            tuple(x_BCHW.shape[1:]),
            input_constructor=lambda _: x_BCHW,
            as_strings=False,
            print_per_layer_stat=False,
            backend="pytorch",
        )
    if macs is None:
        raise BenchError(f"ptflops cannot run the model: {output.getvalue().splitlines()[-1]}")
    return int(macs)


def count_aten(model: nn.Module, x_BCHW: Tensor, scope: Scope, covered: Callable[[], bool]) -> tuple[int, Ledger]:
    """MACs by FlopCounterMode, halved, and the ledger of what was executed."""
    with _plain_attention(), FlopCounterMode(display=False, custom_mapping={SCAN: scan_flops}) as counter:
        ledger = Ledger(counter.flop_registry, scope, covered)
        with ledger:
            model(x_BCHW)
    return int(counter.get_total_flops()) // 2, ledger


def _to_count(counter: Counter, device: Device, macs: int, ledger: Ledger, counted: Callable[[Kind], bool]) -> Count:
    seen, unseen = ledger.select(counted), ledger.select(lambda kind: not counted(kind))
    elements = sum(use.output_elements for use in seen.values())
    total = elements + sum(use.output_elements for use in unseen.values())
    shared = ledger.select(lambda kind: counted(kind) and kind.has_formula)
    missed = ledger.select(lambda kind: not counted(kind) and kind.has_formula)
    by_operator = {name: use.flops // 2 for name, use in shared.items()}
    return Count(
        counter=counter,
        version=importlib.metadata.version("torch" if counter == "aten" else counter),
        device=device,
        macs=macs,
        coverage=elements / total if total else 0.0,
        uncounted=[
            OperatorUse(name=name, calls=use.calls, output_elements=use.output_elements) for name, use in unseen.items()
        ],
        macs_by_operator=by_operator,
        missed_macs={name: use.flops // 2 for name, use in missed.items() if use.flops},
        added_macs=macs - sum(by_operator.values()),
        added_for=list(ledger.select(lambda kind: counted(kind) and not kind.has_formula)),
    )


class Sizes(NamedTuple):
    """Numbers of values that a model holds; a tied tensor counts once."""

    num_params: int
    num_trainable_params: int
    num_buffer_values: int


def measure_sizes(model: nn.Module) -> Sizes:
    """Parameters, those that need a gradient, and buffers of a model."""
    parameters = list(model.parameters())
    return Sizes(
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        sum(buffer.numel() for buffer in model.buffers()),
    )


def count_network(build: Callable[[Device], nn.Module], img_size: int) -> tuple[Sizes, list[Count]]:
    """Sizes and all three counts; `build` gives a fresh copy for each count.

    Raises:
        BenchError: If the model does not run, or ptflops cannot run it.
    """
    device: Device = "meta"
    try:
        thop_macs, aten_macs, ledger = _count_shapes(build, img_size, device)
    except (NotImplementedError, RuntimeError):  # the model looks at values: count it on real tensors
        device = "cpu"
        try:
            thop_macs, aten_macs, ledger = _count_shapes(build, img_size, device)
        except RuntimeError as error:
            raise BenchError(f"the model does not run at {img_size} px: {str(error).splitlines()[0]}") from error
    scope, model = Scope(), build("cpu")
    sizes = measure_sizes(model)
    scope.attach(model)
    with _plain_attention(), Ledger(ledger.formulas, scope, scope.covered_by_ptflops) as seen_by_ptflops:
        ptflops_macs = count_ptflops(model, _images(img_size, "cpu"), scope)
    return sizes, explained(
        [
            _to_count("thop", device, thop_macs, ledger, lambda kind: kind.covered),
            _to_count("ptflops", "cpu", ptflops_macs, seen_by_ptflops, lambda kind: kind.covered),
            _to_count("aten", device, aten_macs, ledger, lambda kind: kind.has_formula),
        ]
    )


def _count_shapes(build: Callable[[Device], nn.Module], img_size: int, device: Device) -> tuple[int, int, Ledger]:
    """MACs by thop and by `aten`, and the ledger of the second run with what thop covers."""
    thop_macs = count_thop(build(device), _images(img_size, device))
    scope, model = Scope(), build(device)
    scope.attach(model)
    return thop_macs, *count_aten(model, _images(img_size, device), scope, scope.covered_by_thop)


def count_model(cell: CostCell) -> CostRecord:
    """Count a registered model, each time on a copy of its own.

    Raises:
        ModelError: If the model refuses the size.
        BenchError: If it does not run.
    """
    sizes, counts = count_network(lambda device: _build(cell, device), cell.img_size)
    return CostRecord(
        suite_version=__version__,
        model=cell.model,
        model_fingerprint=fingerprint(get_spec(cell.model)),
        img_size=cell.img_size,
        in_chans=IN_CHANS,
        num_classes=cell.num_classes,
        **sizes._asdict(),
        counts=counts,
        **provenance.origin({name: importlib.metadata.version(name) for name in ("thop", "ptflops")}),
    ).sealed()
