"""The selective scan: values, the written gradient, memory, and the backend that runs."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from models import selective_scan as scan_module
from models.catalog import ModelError
from models.selective_scan import selected_backend, selective_scan
from models.selective_scan_torch import BLOCK_STEPS, LANE_STATES, scan_blocks, scan_blocks_backward

CUT = BLOCK_STEPS + 1
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def plain_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """The recurrence as it is written down, one step after the other; autograd differentiates it."""
    batch, rows, length = u.shape
    repeats = rows // B.shape[1]
    B_rows, C_rows = B.repeat_interleave(repeats, dim=1), C.repeat_interleave(repeats, dim=1)
    delta = functional.softplus(delta + delta_bias[:, None])
    state, outputs = u.new_zeros(batch, rows, A.shape[1]), []
    for t in range(length):
        drive = (delta[..., t] * u[..., t])[..., None]
        state = torch.exp(delta[..., t, None] * A) * state + drive * B_rows[..., t]
        outputs.append((C_rows[..., t] * state).sum(-1) + D * u[..., t])
    return torch.stack(outputs, dim=-1)


def draw(
    batch: int,
    groups: int,
    channels: int,
    states: int,
    length: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    delta_scale: float = 1.0,
) -> list[Tensor]:
    """Random inputs in the function's order."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups * channels

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [
        tensor.to(dtype)
        for tensor in (
            normal(batch, rows, length),
            normal(batch, rows, length) * delta_scale,
            -torch.exp(normal(rows, states)),
            normal(batch, groups, states, length),
            normal(batch, groups, states, length),
            normal(rows),
            normal(rows),
        )
    ]


def value_and_grads(function, inputs: list[Tensor]) -> list[Tensor]:
    """The result and its seven gradients, for a fixed random cotangent."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    y = function(*leaves)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, cotangent)]


def assert_equal_to_plain(inputs: list[Tensor], tolerance: float = 1e-10) -> None:
    actual, expected = value_and_grads(selective_scan, inputs), value_and_grads(plain_scan, inputs)
    for name, left, right in zip(("y", *NAMES), actual, expected, strict=True):
        assert left.shape == right.shape
        assert left.isfinite().all(), name
        error = (left - right).abs().max().item() / max(right.abs().max().item(), 1e-300)
        assert error <= tolerance, f"{name}: relative error {error:.1e}"


def test_three_steps_by_hand():
    """With delta = 1 and a decay of one half, the inputs 1, 2, 3 give the states 1, 2.5, 4.25."""
    one = torch.ones(1, dtype=torch.float64)
    raw_delta = torch.full((1, 1, 3), math.log(math.e - 1.0) - 0.25, dtype=torch.float64)  # softplus(raw + 0.25) = 1
    u = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
    output = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64).view(1, 1, 1, 3)
    y = selective_scan(u, raw_delta, -math.log(2.0) * one[:, None], torch.ones_like(output), output, 10 * one, one / 4)
    torch.testing.assert_close(y.flatten(), torch.tensor([11.0, 22.5, 38.5], dtype=torch.float64))


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 1),
        (2, 4, 6, 5, 1),
        (2, 4, 6, 5, BLOCK_STEPS),
        (2, 4, 6, 5, BLOCK_STEPS + 1),
        (3, 2, 5, 16, 3 * BLOCK_STEPS - 1),
        (5, 4, LANE_STATES // (4 * 16 * 2), 16, 3),  # two samples a lane, the last lane holds one
        (2, 3, LANE_STATES // 16 // 2, 16, 3),  # two groups a lane, the last lane holds one
        (1, 2, LANE_STATES // 16 + 1, 16, 2),  # one group is more than a lane
    ],
)
def test_equals_the_plain_recurrence(shape):
    """Values and all gradients equal autograd's of the plain loop to 1e-10, whatever the cut into lanes and blocks."""
    assert_equal_to_plain(draw(*shape))


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (3, 4, 7, 9, 2 * BLOCK_STEPS + 5))),
    delta_scale=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_plain_recurrence_on_any_shape(shape, delta_scale, seed):
    """The same for any small shape and size of the steps."""
    assert_equal_to_plain(draw(*shape, seed=seed, delta_scale=delta_scale))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("delta", lambda delta: delta * 1e4),  # decays of exactly 0 and steps of 0 and 1e4 in one sequence
        ("delta", lambda delta: 20.0 + 0.5 * delta),  # about softplus's switch to the identity
        ("delta", lambda delta: delta - 800.0),  # steps that underflow to 0
        ("A", lambda A: A * 1e4),
        ("A", lambda A: A * 0.0),  # no decay: a running sum
        ("A", lambda A: -A * 1e-2),  # growth
        ("u", lambda u: u * 1e12),
        ("B", lambda B: B * 0.0),
    ],
)
def test_extreme_inputs_equal_the_plain_recurrence(name, change):
    """Steps, rates and inputs far out of the usual range change nothing in the agreement, and stay finite."""
    inputs = draw(2, 2, 3, 4, BLOCK_STEPS + 7)
    inputs[NAMES.index(name)] = change(inputs[NAMES.index(name)])
    assert_equal_to_plain(inputs)


def test_memory_order_does_not_matter():
    """Transposed, strided and expanded inputs give what their contiguous copies give, gradients included."""
    u, delta, A, B, C, D, bias = draw(2, 2, 3, 4, BLOCK_STEPS + 8)
    strange = [
        u.transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack((delta, delta), dim=-1)[..., 0],
        A.T.contiguous().T,
        B[:1].expand(2, -1, -1, -1),
        C.flip(-1).contiguous().flip(-1).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        D[:1].expand(6),
        torch.stack((bias, bias), dim=-1)[:, 1],
    ]
    assert not any(tensor.is_contiguous() for tensor in strange)
    cotangent = torch.randn_like(u).transpose(0, 2).contiguous().transpose(0, 2)
    results = []
    for inputs in (strange, [tensor.contiguous() for tensor in strange]):
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        y = selective_scan(*leaves)
        results.append([y.detach(), *torch.autograd.grad(y, leaves, cotangent)])
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_an_output_depends_on_no_later_input():
    """Changing everything after the first block and a step leaves the outputs so far as they are, bit for bit."""
    inputs, other = draw(1, 2, 3, 4, 2 * CUT), draw(1, 2, 3, 4, 2 * CUT, seed=1)
    mixed = [
        torch.cat((left[..., :CUT], right[..., CUT:]), dim=-1) if left.ndim > 2 else left
        for left, right in zip(inputs, other, strict=True)
    ]
    y, y_mixed = selective_scan(*inputs), selective_scan(*mixed)
    assert torch.equal(y[..., :CUT], y_mixed[..., :CUT])
    assert not torch.equal(y[..., CUT:], y_mixed[..., CUT:])


def test_float32_is_close_to_float64():
    """In float32 values and gradients are within 2e-5 of the float64 ones, over 1,000 steps."""
    inputs = draw(1, 2, 8, 16, 1_000)
    doubles = value_and_grads(selective_scan, inputs)
    singles = value_and_grads(selective_scan, [tensor.float() for tensor in inputs])
    for double, single in zip(doubles, singles, strict=True):
        assert single.dtype == torch.float32
        assert (single - double).abs().max() <= 2e-5 * double.abs().max()


def test_autocast_leaves_the_scan_in_float32():
    """Under bfloat16 autocast values and gradients are those of float32, bit for bit; bfloat16 inputs are widened."""
    inputs = draw(2, 2, 8, 4, BLOCK_STEPS + 8, dtype=torch.float32)
    expected = value_and_grads(selective_scan, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = value_and_grads(selective_scan, inputs)
    assert all(torch.equal(left, right) for left, right in zip(actual, expected, strict=True))
    narrow = [tensor.bfloat16() for tensor in inputs]
    y = selective_scan(*narrow)
    assert y.dtype == torch.float32
    assert torch.equal(y, selective_scan(*(tensor.float() for tensor in narrow)))


def test_gradients_or_not_the_values_are_the_same():
    """Keeping block boundaries for the backward pass moves no bit of the result, and no_grad keeps none."""
    inputs = draw(2, 2, 8, 4, 2 * BLOCK_STEPS + 6)
    with torch.no_grad():
        y = selective_scan(*inputs)
    assert torch.equal(y, value_and_grads(selective_scan, inputs)[0])
    _, none_kept = torch.ops.medbench.selective_scan(*inputs, False)
    _, kept = torch.ops.medbench.selective_scan(*inputs, True)
    assert none_kept.shape == (0, 2, 2, 4, 8)
    assert kept.shape == (3, 2, 2, 4, 8)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any result held."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_no_tensor_holds_all_states():
    """Nothing of size L x R x N is made or saved, forwards or backwards: the largest is a tenth of it or less."""
    groups, channels, states, length = 4, 96, 16, 1024
    all_states = length * groups * channels * states
    inputs = draw(1, groups, channels, states, length, dtype=torch.float32)
    delta, drive = (tensor.reshape(1, groups, channels, length).permute(3, 0, 1, 2) for tensor in inputs[:2])
    A = inputs[2].view(groups, channels, states).mT.contiguous()
    B, C = (tensor.permute(3, 0, 1, 2) for tensor in inputs[3:5])
    with LargestTensor() as largest:
        y, boundaries = scan_blocks(delta.abs(), drive, A, B, C, True)
        scan_blocks_backward(y, delta.abs(), drive, A, B, C, boundaries)
    assert largest.numel <= all_states / 10

    saved: list[int] = []
    leaves = [tensor.requires_grad_() for tensor in inputs]
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda x: x):
        selective_scan(*leaves)
    assert sum(tensor.numel() for tensor in inputs) < sum(saved) <= all_states / 4
    assert max(saved) <= all_states / 10


def test_a_second_derivative_is_refused():
    """Differentiating the gradient is an error, never a silent zero."""
    leaves = [tensor.requires_grad_() for tensor in draw(1, 1, 2, 3, 4)]
    (grad,) = torch.autograd.grad(selective_scan(*leaves).square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()


@pytest.mark.parametrize("length", [1, BLOCK_STEPS, BLOCK_STEPS + 3])
def test_the_registered_op_keeps_torchs_contract(length):
    """Schema, fake tensors, autograd registration and ahead-of-time tracing agree with the real op."""
    inputs = [tensor.requires_grad_() for tensor in draw(2, 2, 3, 4, length)]
    verdicts = torch.library.opcheck(torch.ops.medbench.selective_scan.default, (*inputs, True))
    assert set(verdicts.values()) == {"SUCCESS"}
    y, boundaries = torch.ops.medbench.selective_scan(*inputs, True)
    arguments = [tensor.detach() for tensor in (torch.randn_like(y), *inputs, boundaries)]
    verdicts = torch.library.opcheck(torch.ops.medbench.selective_scan_backward.default, arguments)
    assert set(verdicts.values()) == {"SUCCESS"}


def test_traced_whole_it_equals_eager():
    """The tracer takes the scan without a graph break, and the traced program gives eager's bits."""
    inputs = draw(2, 2, 3, 4, BLOCK_STEPS + 8)
    traced = torch.compile(selective_scan, backend="aot_eager", fullgraph=True)
    pairs = zip(value_and_grads(traced, inputs), value_and_grads(selective_scan, inputs), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


def test_a_flop_counter_can_be_taught_the_op():
    """A formula registered for `medbench::selective_scan` is used once a call, also on `meta`, with the shapes."""
    seen = []

    def formula(u_shape, delta_shape, A_shape, B_shape, *args, out_shape=None, **kwargs):
        seen.append((u_shape, A_shape, B_shape))
        return 7

    inputs = [tensor.to("meta") for tensor in draw(2, 4, 3, 5, 40, dtype=torch.float32)]
    with FlopCounterMode(display=False, custom_mapping={torch.ops.medbench.selective_scan: formula}) as counter:
        assert selective_scan(*inputs).shape == (2, 12, 40)
    assert counter.get_total_flops() == 7
    assert seen == [((2, 12, 40), (12, 5), (2, 4, 5, 40))]


@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_disagree_are_named(name):
    """A wrong shape is one clear line with the shapes that came and those that would do."""
    inputs = draw(2, 2, 3, 4, 6)
    inputs[NAMES.index(name)] = inputs[NAMES.index(name)][..., :-1]
    with pytest.raises(ModelError, match=r"got u, delta.* it takes \(Z, R, L\)"):
        selective_scan(*inputs)


def test_rows_must_be_a_multiple_of_the_groups():
    """Seven rows cannot be shared out to two groups."""
    inputs = draw(1, 1, 7, 4, 6)
    inputs[3], inputs[4] = (tensor.expand(1, 2, 4, 6) for tensor in inputs[3:5])
    with pytest.raises(ModelError, match="R a multiple of G"):
        selective_scan(*inputs)


def test_a_backend_that_cannot_run_is_an_error():
    """An unknown backend, or the CUDA kernel on a CPU, is refused; nothing falls back silently."""
    inputs = draw(1, 1, 2, 3, 4)
    with pytest.raises(ModelError, match="Unknown scan backend 'numba'; known: auto, mamba_ssm, torch"):
        selective_scan(*inputs, backend="numba")
    with pytest.raises(ModelError, match="cannot run on cpu in float64"):
        selective_scan(*inputs, backend="mamba_ssm")
    assert torch.equal(selective_scan(*inputs, backend="torch"), selective_scan(*inputs))


def test_the_selected_backend_can_be_asked(monkeypatch):
    """mamba-ssm where its kernel can run: CUDA, float32, and a package that imports; else torch."""
    monkeypatch.setattr(scan_module, "_has_mamba_ssm", lambda: True)
    assert selected_backend("cpu") == "torch"
    assert selected_backend("cuda:1") == "mamba_ssm"
    assert selected_backend(torch.device("cuda"), torch.float64) == "torch"
    monkeypatch.setattr(scan_module, "_has_mamba_ssm", lambda: False)
    assert selected_backend("cuda") == "torch"


def test_the_kernel_is_called_with_the_same_meaning(monkeypatch):
    """Behind mamba-ssm's interface (bias and softplus by keyword) a plain loop gives this module's result."""

    def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
        assert z is None
        assert delta_softplus
        return plain_scan(u, delta, A, B, C, D, delta_bias)

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.setattr(scan_module, "_choose", lambda *_: "mamba_ssm")
    inputs = draw(2, 2, 3, 4, 10)
    by_this_module = torch.ops.medbench.selective_scan(*inputs, False)[0]
    torch.testing.assert_close(selective_scan(*inputs), by_this_module, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own, as it is loaded
def test_compiled_it_equals_eager():
    """Compiled, values and gradients are eager's within float64 rounding."""
    inputs = draw(2, 2, 3, 4, BLOCK_STEPS + 8)
    compiled = torch.compile(selective_scan, fullgraph=True)
    for left, right in zip(value_and_grads(compiled, inputs), value_and_grads(selective_scan, inputs), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", "mamba_ssm"])
def test_a_gpu_gives_the_cpus_result(backend):
    """On CUDA each backend agrees with the CPU in float32 to 1e-3 relative, gradients too."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if backend == "mamba_ssm" and selected_backend("cuda") != "mamba_ssm":
        pytest.skip("mamba-ssm is not installed with its kernel")
    inputs = draw(2, 4, 32, 16, 300, dtype=torch.float32)
    expected = value_and_grads(selective_scan, inputs)
    leaves = [tensor.cuda().requires_grad_() for tensor in inputs]
    y = selective_scan(*leaves, backend=backend)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(99), dtype=torch.float64).to(y)
    for left, right in zip([y.detach(), *torch.autograd.grad(y, leaves, cotangent)], expected, strict=True):
        assert (left.cpu() - right).abs().max() <= 1e-3 * right.abs().max()
