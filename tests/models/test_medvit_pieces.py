"""MedViT's pieces against loops over pixels, tokens and heads, in float64 and without torch's layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from models.medvit import ECB, EMHSA, LFFN, LTB, MHCA, PatchEmbed, SqueezeExcite

Array = NDArray[np.float64]


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 and eval mode, with random weights and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                scale = 1 / math.sqrt(tensor[0].numel()) if tensor.ndim > 1 else 0.3
                shift = 1.0 if tensor.ndim == 1 and name.endswith(("weight", "running_var")) else 0.0
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(shift + scale * (2 * drawn - 1) * math.sqrt(3))
    return module


def random_map(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(module: nn.Module, x_BCHW: Tensor) -> Tensor:
    with torch.no_grad():
        return module(x_BCHW)


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def convolve(x_CHW: Array, weight: Array, groups: int = 1) -> Array:
    """Stride 1, zero padding, no bias: one output pixel at a time."""
    chans, height, width = x_CHW.shape
    reach = weight.shape[2] // 2
    padded = np.pad(x_CHW, ((0, 0), (reach, reach), (reach, reach)))
    convolved = np.zeros((len(weight), height, width))
    for out in range(len(weight)):
        first = out // (len(weight) // groups) * (chans // groups)
        for row in range(height):
            for column in range(width):
                window = padded[
                    first : first + chans // groups, row : row + 2 * reach + 1, column : column + 2 * reach + 1
                ]
                convolved[out, row, column] = (window * weight[out]).sum()
    return convolved


def normalise(x_C: Array, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Array:
    """Batch norm in eval mode; channels first."""
    mean, variance = numbers(norm.running_mean), numbers(norm.running_var)
    scale, shift = numbers(norm.weight), numbers(norm.bias)
    channels = [(x_C[c] - mean[c]) / math.sqrt(variance[c] + 1e-5) * scale[c] + shift[c] for c in range(len(x_C))]
    return np.stack(channels)


def affine(layer: nn.Linear, values: Array) -> Array:
    return numbers(layer.weight) @ values + numbers(layer.bias)


def hard_sigmoid(values: Array) -> Array:
    return np.minimum(np.maximum(values + 3, 0), 6) / 6


@pytest.mark.parametrize(("height", "width", "reduction"), [(3, 6, 2), (4, 9, 4), (2, 3, 1), (1, 5, 2)])
def test_attention_pools_consecutive_tokens(height: int, width: int, reduction: int) -> None:
    """E-MHSA averages s^2 row-major tokens to a key, drops the rest, and attends head by head of 32 channels."""
    attention, x_CHW = randomised(EMHSA(64, reduction)), random_map(64, height, width)
    tokens = [numbers(x_CHW)[:, row, column] for row in range(height) for column in range(width)]
    window = reduction**2
    sources = [sum(tokens[first : first + window]) / window for first in range(0, len(tokens) - window + 1, window)]
    if reduction > 1:
        sources = [normalise(source, attention.norm) for source in sources]
    keys, values = [affine(attention.k, t) for t in sources], [affine(attention.v, t) for t in sources]
    assert len(keys) == height * width // window
    expected = np.zeros((64, height, width))
    for position, token in enumerate(tokens):
        query, heads = affine(attention.q, token), []
        for head in (slice(0, 32), slice(32, 64)):
            weights = [math.exp(query[head] @ key[head] / math.sqrt(32)) for key in keys]
            heads.append(sum(w * value[head] for w, value in zip(weights, values, strict=True)) / sum(weights))
        expected[:, position // width, position % width] = affine(attention.proj, np.concatenate(heads))
    np.testing.assert_allclose(numbers(run(attention, x_CHW[None]))[0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ratio", [3, 2])
def test_lffn_adds_its_own_input(ratio: int) -> None:
    """1x1, h-swish, depthwise 3x3, h-swish, squeeze-and-excitation with `ratio` units, 1x1; plus the input."""
    lffn, x_CHW = randomised(LFFN(6, ratio)), random_map(6, 3, 4)
    expand, norm0, _, depthwise, norm1, _, gate, reduce, norm2 = lffn.conv
    inner = normalise(convolve(numbers(x_CHW), numbers(expand.weight)), norm0)
    inner = inner * hard_sigmoid(inner)
    inner = normalise(convolve(inner, numbers(depthwise.weight), groups=6 * ratio), norm1)
    inner = inner * hard_sigmoid(inner)
    squeezed = np.maximum(affine(gate.fc[0], inner.mean(axis=(1, 2))), 0)
    assert len(squeezed) == ratio
    inner = inner * hard_sigmoid(affine(gate.fc[2], squeezed))[:, None, None]
    expected = numbers(x_CHW) + normalise(convolve(inner, numbers(reduce.weight)), norm2)
    np.testing.assert_allclose(numbers(run(lffn, x_CHW[None]))[0], expected, rtol=1e-10, atol=1e-12)


def test_mhca_convolves_within_heads_of_32_channels() -> None:
    """Grouped 3x3, norm, ReLU, 1x1, and nothing after it."""
    mhca, x_CHW = randomised(MHCA(64)), random_map(64, 2, 3)
    inner = normalise(convolve(numbers(x_CHW), numbers(mhca.conv.weight), groups=2), mhca.norm)
    expected = convolve(np.maximum(inner, 0), numbers(mhca.proj.weight))
    np.testing.assert_allclose(numbers(run(mhca, x_CHW[None]))[0], expected, rtol=1e-10, atol=1e-12)


@given(height=st.integers(1, 7), width=st.integers(1, 7))
@settings(max_examples=20, deadline=None)
def test_patch_embedding_averages_the_pixels_that_exist(height: int, width: int) -> None:
    """Stride 2 rounds odd sizes up; the last window averages one row or column, without padding."""
    embed, x_CHW = randomised(PatchEmbed(3, 5, 2)), random_map(3, height, width)
    pooled = np.zeros((3, -(-height // 2), -(-width // 2)))
    for row in range(pooled.shape[1]):
        for column in range(pooled.shape[2]):
            window = numbers(x_CHW)[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            pooled[:, row, column] = window.mean(axis=(1, 2))
    expected = normalise(convolve(pooled, numbers(embed.conv.weight)), embed.norm)
    np.testing.assert_allclose(numbers(run(embed, x_CHW[None]))[0], expected, rtol=1e-10, atol=1e-12)


def test_patch_embedding_at_stride_1() -> None:
    """Equal widths: the identity without parameters; other widths: 1x1 convolution and norm, no pooling."""
    x_BCHW = random_map(2, 4, 3, 3)
    assert list(PatchEmbed(4, 4).parameters()) == []
    assert torch.equal(PatchEmbed(4, 4)(x_BCHW), x_BCHW)
    embed = randomised(PatchEmbed(4, 2))
    expected = normalise(convolve(numbers(x_BCHW[0]), numbers(embed.conv.weight)), embed.norm)
    np.testing.assert_allclose(numbers(run(embed, x_BCHW))[0], expected, rtol=1e-10, atol=1e-12)


def test_ecb_has_a_double_residual() -> None:
    """The output is x + n + F(n), with x after the MHCA residual, n its norm and F the LFFN without its input."""
    block, x_BCHW = randomised(ECB(32, 64, 2, drop_path=0.5)), random_map(2, 32, 5, 6)
    x = run(block.patch_embed, x_BCHW)
    x = x + run(block.mhca, x)
    n = run(block.norm, x)
    expected = x + n + run(block.conv.conv, n)
    torch.testing.assert_close(run(block, x_BCHW), expected, rtol=1e-12, atol=1e-12)


def test_ltb_concatenates_attention_then_convolution() -> None:
    """192 of 256 channels come from the attention, first; 64 from an MHCA on their projection."""
    block, x_BCHW = randomised(LTB(192, 256, 1, reduction=2, drop_path=0.5)), random_map(2, 192, 3, 4)
    x = x_BCHW + run(block.e_mhsa, run(block.norm1, x_BCHW))
    y = run(block.projection, x)
    y = y + run(block.mhca, y)
    assert (x.shape[1], y.shape[1]) == (192, 64)
    x = torch.cat([x, y], dim=1)
    n = run(block.norm2, x)
    expected = x + n + run(block.conv.conv, n)
    torch.testing.assert_close(run(block, x_BCHW), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("width", "attention", "conv"), [(256, 192, 64), (512, 384, 128), (1024, 768, 256)])
def test_ltb_splits_its_channels_in_multiples_of_a_head(width: int, attention: int, conv: int) -> None:
    """Three quarters for the attention, as section 7 lists them."""
    with torch.device("meta"):
        block = LTB(attention, width, 1, 1, 0.0)
    assert (block.e_mhsa.q.in_features, block.mhca.proj.in_channels) == (attention, conv)


def test_stochastic_depth_skips_the_mhca_alone_and_by_sample() -> None:
    """A training sample either lacks the MHCA or has it scaled by 1 / keep; the LFFN is never skipped."""
    block, x_BCHW = randomised(ECB(32, 32, 1, drop_path=0.75)), random_map(64, 32, 2, 2)
    block.drop_path.train()
    torch.manual_seed(0)
    output = run(block, x_BCHW)
    kept = x_BCHW + run(block.mhca, x_BCHW) / 0.25
    with_mhca, without = (x + run(block.conv, run(block.norm, x)) for x in (kept, x_BCHW))
    is_kept = (output - with_mhca).abs().amax((1, 2, 3)) < 1e-10
    is_dropped = (output - without).abs().amax((1, 2, 3)) < 1e-10
    assert (is_kept ^ is_dropped).all()
    assert 4 <= is_kept.sum() <= 30  # 16 expected


PIECES: list[tuple[nn.Module, tuple[int, ...]]] = [
    (PatchEmbed(3, 4, 2), (2, 3, 3, 5)),
    (MHCA(32), (2, 32, 2, 3)),
    (SqueezeExcite(6, 3), (2, 6, 2, 2)),
    (LFFN(4, 3), (2, 4, 3, 3)),
    (EMHSA(64, 2), (2, 64, 3, 3)),
    (EMHSA(32, 1), (2, 32, 2, 2)),
    (ECB(32, 32, 1, 0.0), (2, 32, 2, 2)),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("piece", "shape"), PIECES, ids=[type(piece).__name__ for piece, _ in PIECES])
def test_gradients_are_finite_differences(piece: nn.Module, shape: tuple[int, ...], training: bool) -> None:
    """gradcheck in float64 on the input and on every parameter, with running and with batch statistics."""
    module = randomised(piece, seed=3).train(training)
    names = [name for name, _ in module.named_parameters()]
    inputs = [random_map(*shape).requires_grad_(), *(p.detach().clone().requires_grad_() for p in module.parameters())]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
