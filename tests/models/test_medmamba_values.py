"""What MedMamba computes: golden outputs of our own, the blocks against naive versions, gradients, formats.

The goldens hold for weights that are a formula of their position in the state dict (`fill`). After a change that is
meant to move them, `REWRITE_GOLDENS=medmamba pytest tests/models/test_medmamba_values.py` writes the file anew.
"""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.medmamba import SS2D, ConvSSMBlock, MedMamba, medmamba_b, medmamba_t

GOLDENS = Path(__file__).parents[1] / "goldens" / "medmamba.json"
GOLDEN_SIZES = ((32, 32), (64, 64), (64, 96), (65, 97))


def waves(start: int, *shape: int) -> Tensor:
    """Float64 values in [-1, 1] that repeat nowhere, from the integers from `start` on."""
    return torch.sin(torch.arange(start, start + math.prod(shape), dtype=torch.float64) ** 1.5).view(shape)


@torch.no_grad()
def fill(module: nn.Module) -> nn.Module:
    """Give the floats of a module float64 values of `waves` at their running index, scaled by their role.

    Matrices get a variance of about 2 / fan-in, norm weights and running variances 1 +- 0.4; A_logs and the step
    sizes' bias stay in the range of their initial values.
    """
    module.double()
    index = 0
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        values = waves(index, *tensor.shape)
        index += tensor.numel()
        if name.endswith("A_logs"):
            tensor.copy_(torch.arange(1, 17).log() + 0.3 * values)
        elif name.endswith("dt_projs_bias"):
            tensor.copy_(-4 + 2 * values)
        elif name.endswith("x_proj_weight") or (name.endswith("weight") and tensor.ndim > 1):
            tensor.copy_(2 * values / math.sqrt(tensor[0].numel() if tensor.ndim != 3 else tensor.shape[-1]))
        elif name.endswith(("weight", "running_var", "Ds")):
            tensor.copy_(1 + 0.4 * values)
        else:
            tensor.copy_(0.3 * values)
    return module.eval()


@functools.cache
def filled_medmamba_t() -> MedMamba:
    """MedMamba-T with 7 classes in float64; tests only read it."""
    with torch.device("meta"):
        model = medmamba_t(num_classes=7)
    return fill(model.to_empty(device="cpu"))


def image(batch: int, height: int, width: int) -> Tensor:
    return waves(10**6, batch, 3, height, width)


def measure() -> dict[str, list[float]]:
    """All golden numbers: logits by size, mean and deviation after every stage, a small MedMamba of B's width."""
    model = filled_medmamba_t()
    with torch.no_grad():
        numbers = {f"logits_{h}x{w}": model(image(2, h, w)).flatten().tolist() for h, w in GOLDEN_SIZES}
        x_BHWC = model.patch_embed(image(1, 64, 96))
        for index, stage in enumerate(model.layers):
            x_BHWC = stage(x_BHWC)
            numbers[f"stage_{index}"] = [x_BHWC.mean().item(), x_BHWC.std().item()]
        wide = fill(MedMamba(num_classes=5, in_chans=1, embed_dim=128, depths=(1, 1)))
        numbers["width_128_depths_1_1"] = wide(waves(7, 1, 1, 40, 56)).flatten().tolist()
    return numbers


def test_outputs_are_the_stored_ones():
    """No change moves a logit or a stage of the formula-filled models unseen."""
    measured = measure()
    if os.environ.get("REWRITE_GOLDENS") == "medmamba":
        GOLDENS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(GOLDENS.read_text(encoding="utf-8"))
    assert sorted(measured) == sorted(stored)
    for key, numbers in measured.items():
        assert numbers == pytest.approx(stored[key], rel=1e-9, abs=1e-9), key


def silu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / (1 + np.exp(-x))


def naive_ss2d(ss2d: SS2D, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Section 5 of the specification for one sample (H, W, h), position by position, with explicit loops."""
    p = {name: tensor.numpy() for name, tensor in ss2d.state_dict().items()}
    height, width, _ = x.shape
    d, rank, num_states = p["out_norm.weight"].size, p["dt_projs_weight"].shape[2], p["A_logs"].shape[1]
    projected = x @ p["in_proj.weight"].T
    u0, z = projected[..., :d], projected[..., d:]
    U = np.zeros((height, width, d))
    for i in range(height):
        for j in range(width):
            total = p["conv2d.bias"].copy()
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < height and 0 <= j + dj < width:
                        total += p["conv2d.weight"][:, 0, di + 1, dj + 1] * u0[i + di, j + dj]
            U[i, j] = silu(total)
    by_rows = [(i, j) for i in range(height) for j in range(width)]
    by_columns = [(i, j) for j in range(width) for i in range(height)]
    merged = np.zeros_like(U)
    for k, path in enumerate((by_rows, by_columns, by_rows[::-1], by_columns[::-1])):
        state = np.zeros((d, num_states))
        for i, j in path:
            s = U[i, j]
            raw = p["x_proj_weight"][k] @ s
            low, Bt, Ct = raw[:rank], raw[rank : rank + num_states], raw[rank + num_states :]
            delta = np.log1p(np.exp(p["dt_projs_weight"][k] @ low + p["dt_projs_bias"][k]))
            for c in range(d):
                for n in range(num_states):
                    A = -math.exp(p["A_logs"][k * d + c, n])
                    state[c, n] = math.exp(delta[c] * A) * state[c, n] + delta[c] * Bt[n] * s[c]
                merged[i, j, c] += state[c] @ Ct + p["Ds"][k * d + c] * s[c]
    mean, variance = merged.mean(-1, keepdims=True), merged.var(-1, keepdims=True)
    normed = (merged - mean) / np.sqrt(variance + 1e-5) * p["out_norm.weight"] + p["out_norm.bias"]
    return (normed * silu(z)) @ p["out_proj.weight"].T


@pytest.mark.parametrize(("height", "width", "d_model"), [(3, 4, 20), (1, 5, 4), (4, 2, 16)])
def test_ss2d_equals_the_specification_written_as_loops(height, width, d_model):
    """Projections, paths, recurrence and merging equal a loop over positions, channels and states."""
    ss2d = fill(SS2D(d_model))
    x = waves(3, 2, height, width, d_model)
    with torch.no_grad():
        actual = ss2d(x)
    for sample in range(2):
        torch.testing.assert_close(actual[sample], torch.from_numpy(naive_ss2d(ss2d, x[sample].numpy())))


def halves(block: ConvSSMBlock, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Both branches' results without shuffle or residual, stochastic depth left out."""
    half = x_BHWC.shape[-1] // 2
    convolved = block.conv33conv33conv11(x_BHWC[..., :half].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return convolved, block.self_attention(block.ln_1(x_BHWC[..., half:]))


def test_a_block_shuffles_its_halves_and_adds_its_input():
    """Output channel 2j is convolution channel j, 2j + 1 is scan channel j, each plus the unsplit input."""
    block, x = fill(ConvSSMBlock(12, 0.0)), waves(5, 2, 3, 4, 12)
    with torch.no_grad():
        convolved, scanned = halves(block, x)
        actual = block(x)
    for j in range(6):
        torch.testing.assert_close(actual[..., 2 * j], convolved[..., j] + x[..., 2 * j])
        torch.testing.assert_close(actual[..., 2 * j + 1], scanned[..., j] + x[..., 2 * j + 1])


def test_stochastic_depth_drops_the_scan_branch_of_whole_samples():
    """In training a sample's scan branch is 0 or 1 / keep times itself; the convolutions are never dropped."""
    block, x = fill(ConvSSMBlock(8, 0.75)), waves(5, 64, 2, 3, 8)
    block.drop_path.train()
    with torch.no_grad():
        convolved, scanned = halves(block, x)
        torch.manual_seed(0)
        branches = block(x) - x
    torch.testing.assert_close(branches[..., ::2], convolved)
    factors = (branches[..., 1::2] / scanned).flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    kept = factors[:, 0] > 1
    torch.testing.assert_close(factors[kept, 0], torch.full_like(factors[kept, 0], 4.0))
    assert not factors[~kept].any()
    assert 4 <= kept.sum() <= 32  # 16 of 64 expected


def test_gradients_are_those_of_finite_differences():
    """A block's gradient in its input and its stacked scan parameters agrees with finite differences in float64."""
    block, x = fill(ConvSSMBlock(4, 0.0)), waves(5, 1, 2, 3, 4).requires_grad_()
    scan = block.self_attention
    parameters = (scan.x_proj_weight, scan.dt_projs_weight, scan.dt_projs_bias, scan.A_logs, scan.Ds)
    torch.autograd.gradcheck(lambda x, *_: block(x), (x, *parameters), fast_mode=True)


def test_every_parameter_gets_a_gradient():
    """In evaluation all do; in training all but the conv biases that the next batch norm subtracts again."""
    model = filled_medmamba_t()
    without = {
        name
        for name, _ in model.named_parameters()
        if name.endswith(("conv33conv33conv11.1.bias", "conv33conv33conv11.4.bias"))
    }
    assert len(without) == 20
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for training in (False, True):
        model.train(training)
        torch.manual_seed(0)  # stochastic depth may leave a block out for both images: not with this seed
        names, parameters = zip(*model.named_parameters(), strict=True)
        grads = torch.autograd.grad((model(image(2, 64, 64)) * waves(1, 2, 7)).sum(), parameters)
        sizes = {name: grad.abs().max().item() for name, grad in zip(names, grads, strict=True)}
        assert {name for name, size in sizes.items() if size < 1e-10} == (without if training else set())
    model.eval()
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])


def test_evaluation_is_deterministic_and_sample_by_sample():
    """Twice the same bits, and an image alone gives what it gives in a batch."""
    model, x = filled_medmamba_t(), image(3, 64, 64)
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(model(x), logits)
        torch.testing.assert_close(model(x[1:2]), logits[1:2], rtol=1e-9, atol=1e-9)


def test_channels_last_equals_contiguous():
    """The memory format of images and weights moves nothing beyond rounding, gradients included."""
    model, x = filled_medmamba_t(), image(2, 64, 96)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=memory_format)
        leaf = x.contiguous(memory_format=memory_format).requires_grad_()
        logits = model(leaf)
        results.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), leaf)))
    model.to(memory_format=torch.contiguous_format)
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


class ScanDtypes(TorchDispatchMode):
    """Collects the dtypes that the scan and its backward pass are given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "medbench":
            dtypes = {arg.dtype for arg in args if isinstance(arg, Tensor)}
            self.seen.setdefault(func._opname, set()).update(dtypes)
        return func(*args, **(kwargs or {}))


def test_autocast_keeps_the_scan_in_float32():
    """Under bfloat16 autocast the scan runs in float32, and a drawn model's logits stay close to float32's."""
    torch.manual_seed(0)
    model, x = medmamba_b(num_classes=5).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        reference = model.forward_features(x)
    with ScanDtypes() as dtypes:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = model.forward_features(x)
        maps.float().sum().backward()
    assert dtypes.seen == {"selective_scan": {torch.float32}, "selective_scan_backward": {torch.float32}}
    assert (maps - reference).abs().max() <= 0.03 * reference.abs().max()


def test_traced_whole_it_equals_eager():
    """The tracer takes the model without a graph break; the traced program gives eager's numbers."""
    model = fill(MedMamba(num_classes=3, in_chans=3, embed_dim=16, depths=(1, 1)))
    traced = torch.compile(model, backend="aot_eager", fullgraph=True)
    results = []
    for function in (model, traced):
        logits = function(image(2, 32, 48))
        results.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), list(model.parameters()))))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)
