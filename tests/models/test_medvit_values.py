"""What MedViT-T computes, in float64: golden outputs of our own, gradients, formats, initial weights.

The goldens hold for weights that are a formula of their position in the state dict (`fill`). After a change that
is meant to move them, `REWRITE_GOLDENS=medvit pytest tests/models/test_medvit_values.py` writes the file anew.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.medvit import MedViT, medvit_t

GOLDENS = Path(__file__).parents[1] / "goldens" / "medvit.json"
GOLDEN_SIZES = ((28, 28), (64, 64), (64, 96), (65, 97))
BLOCK_NORM_VARIANCE = re.compile(r"features\.\d+\.norm[12]?\.running_var")


def noise(start: int, count: int) -> Tensor:
    """Float64 values in [-1, 1) of the integers from `start` on; exact integer steps, the same everywhere."""
    bits = torch.arange(start, start + count)
    bits.mul_(2654435761).bitwise_and_(2**32 - 1)
    bits.bitwise_xor_(bits >> 15).mul_(1103515245).bitwise_and_(2**32 - 1)
    bits.bitwise_xor_(bits >> 13).bitwise_and_(2**24 - 1)
    return bits.double().div_(2**23).sub_(1)


@torch.no_grad()
def fill(module: nn.Module) -> nn.Module:
    """Give each float of the state dict a value of `noise` at its running index, scaled by its role.

    Weights get a variance of 1 / fan-in. The large variances of the block norms and the small MHCA
    projections hold the activations of all blocks between 0.1 and 20, so that no softmax saturates.
    """
    index = 0
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
            continue
        unit = noise(index, tensor.numel()).view(tensor.shape)
        index += tensor.numel()
        if tensor.ndim > 1:
            gain = 0.3 if name.endswith("mhca.proj.weight") else 1.0
            tensor.copy_(unit * gain * math.sqrt(3 / tensor[0].numel()))
        elif BLOCK_NORM_VARIANCE.fullmatch(name):
            tensor.copy_(64 * (1 + 0.5 * unit))
        elif name.endswith(("weight", "running_var")):
            tensor.copy_(1 + 0.5 * unit)
        else:
            tensor.copy_(0.2 * unit)
    return module


def filled_medvit_t(drop_path_rate: float = 0.1, dtype: torch.dtype = torch.float64) -> MedViT:
    """MedViT-T with 7 classes and weights from `fill`, in eval mode."""
    with torch.device("meta"):
        model = medvit_t(num_classes=7, drop_path_rate=drop_path_rate).to(dtype)
    model = model.to_empty(device="cpu")
    fill(model)
    return model.eval()


@functools.cache
def shared_medvit_t() -> MedViT:
    return filled_medvit_t()


def image(batch: int, height: int, width: int) -> Tensor:
    return noise(10**9, batch * 3 * height * width).view(batch, 3, height, width)


def measure() -> dict[str, Any]:
    """All golden numbers: logits by size, mean and deviation of every block at 64x96, one training step."""
    model = shared_medvit_t()
    blocks: list[list[float]] = []
    with torch.no_grad():
        logits = {f"{height}x{width}": model(image(2, height, width)).tolist() for height, width in GOLDEN_SIZES}
        maps = model.stem(image(2, 64, 96))
        for block in model.features:
            maps = block(maps)
            blocks.append([maps.mean().item(), maps.std().item()])
    training = filled_medvit_t(drop_path_rate=0.0).train()
    loss = F.cross_entropy(training(image(2, 40, 40)), torch.tensor([3, 6]))
    loss.backward()
    parts = [("stem", training.stem), *training.features.named_children(), ("proj_head", training.proj_head)]
    norms = {name: math.sqrt(sum(p.grad.square().sum().item() for p in part.parameters())) for name, part in parts}
    return {"logits": logits, "blocks": blocks, "train_loss": loss.item(), "train_grad_norms": norms}


def flatten(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flatten(value[key])]
    return [number for item in value for number in flatten(item)] if isinstance(value, list) else [value]


def test_outputs_and_gradients_are_the_stored_ones() -> None:
    """No change moves a logit, a block or a gradient of the formula-filled MedViT-T unseen."""
    measured = measure()
    if os.environ.get("REWRITE_GOLDENS") == "medvit":
        GOLDENS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(GOLDENS.read_text(encoding="utf-8"))
    assert sorted(measured) == sorted(stored)
    for key in measured:
        torch.testing.assert_close(
            torch.tensor(flatten(measured[key]), dtype=torch.float64),
            torch.tensor(flatten(stored[key]), dtype=torch.float64),
            rtol=1e-6 if key.startswith("train") else 1e-9,
            atol=1e-9,
            msg=lambda text, key=key: f"{key}: {text}",
        )
    spread = [deviation for _, deviation in stored["blocks"]]
    assert 0.1 < min(spread) < max(spread) < 20  # as `fill` promises


def test_one_instance_takes_several_sizes_and_single_images() -> None:
    """In eval mode an image's logits depend neither on its batch nor on sizes seen before."""
    model = shared_medvit_t()
    with torch.no_grad():
        for height, width in ((64, 96), (64, 64), (25, 25)):
            batch = image(2, height, width)
            single = torch.cat([model(batch[:1]), model(batch[1:])])
            torch.testing.assert_close(model(batch), single, rtol=1e-10, atol=1e-10)


def test_channels_last_equals_contiguous() -> None:
    """The memory format changes no value, and a channels_last input stays so through all blocks."""
    model, batch = filled_medvit_t(), image(2, 64, 96)
    with torch.no_grad():
        expected = model(batch)
        model, batch = model.to(memory_format=torch.channels_last), batch.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(batch), expected, rtol=1e-10, atol=1e-10)
        maps = model.stem(batch)
        for block in model.features:
            maps = block(maps)
            assert maps.is_contiguous(memory_format=torch.channels_last)


def test_gradient_is_the_slope_of_the_whole_model() -> None:
    """Along a direction in all parameters and the input, autograd agrees with a central difference."""
    model, batch = filled_medvit_t(), image(1, 40, 33).requires_grad_()
    tensors = [*model.parameters(), batch]
    weights = noise(5, 7)
    gradients = torch.autograd.grad((model(batch)[0] * weights).sum(), tensors)
    slope, values, index = 0.0, [], 1
    with torch.no_grad():
        directions = []
        for tensor, gradient in zip(tensors, gradients, strict=True):
            directions.append(noise(index, tensor.numel()).view(tensor.shape) * 1e-2)
            slope += (directions[-1] * gradient).sum().item()
            index += tensor.numel()
        for step in (1e-6, -2e-6):
            for tensor, direction in zip(tensors, directions, strict=True):
                tensor.add_(direction, alpha=step)
            values.append((model(batch)[0] * weights).sum().item())
    assert math.isclose((values[0] - values[1]) / 2e-6, slope, rel_tol=1e-5)


def without_gradient(size: int, batch: int, *, training: bool) -> list[str]:
    """Names of the parameters whose gradient is zero, as far as rounding lets it, for square images.

    The norms' weights are those of `fill`, redrawn. The biases of squeeze-and-excitation are raised: its two or
    three units have no gradient where ReLU is off for the whole batch, which is chance, not structure.
    """
    model = filled_medvit_t(drop_path_rate=0.0).train(training)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("fc.0.bias"):
                parameter.fill_(1.0)
    model(image(batch, size, size)).square().sum().backward()
    sizes = {name: parameter.grad.abs().max().item() for name, parameter in model.named_parameters()}
    names = sorted(name for name, size in sizes.items() if size < 1e-10)
    assert min(size for name, size in sizes.items() if name not in names) > 1e-5  # nothing in between
    return names


ATTENTIONS = ("features.11.e_mhsa", "features.16.e_mhsa", "features.19.e_mhsa", "features.6.e_mhsa")


def test_every_parameter_learns_but_the_key_bias() -> None:
    """All gradients differ from zero, save that of k's bias, which shifts all logits of a query alike."""
    assert without_gradient(48, 1, training=False) == [f"{path}.k.bias" for path in ATTENTIONS]


def test_at_28_px_queries_and_keys_learn_nothing() -> None:
    """With one key the softmax is 1: weights and biases of q and k have no gradient, all others do."""
    layers = ("k.bias", "k.weight", "q.bias", "q.weight")
    assert without_gradient(28, 1, training=False) == [f"{path}.{layer}" for path in ATTENTIONS for layer in layers]


def test_in_training_a_later_norm_hides_some_biases() -> None:
    """A shift of a whole channel is no gradient where each reader starts with a 1x1 convolution and batch norm.

    So it is at the end of the blocks before a patch embedding, an LTB or the last norm, and in the attention.
    """
    hidden = [f"{path}.{layer}.bias" for path in ATTENTIONS for layer in ("k", "v", "proj")]
    hidden += [f"{path}.norm.bias" for path in ATTENTIONS if path != "features.19.e_mhsa"]
    for number in (2, 5, 6, 10, 11, 15, 16, 18, 19):
        block_norm = "norm2" if number in (6, 11, 16, 19) else "norm"
        hidden += [f"features.{number}.{block_norm}.bias", f"features.{number}.conv.conv.8.bias"]
    assert without_gradient(48, 2, training=True) == sorted(hidden)


def test_training_on_one_image_of_28_px_is_an_error() -> None:
    """A batch norm over a single value has no variance (section 14): torch says so, nothing is hidden."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        filled_medvit_t().train()(image(1, 28, 28))


def test_initial_weights_are_the_specifications() -> None:
    """Weights are normal with deviation 0.02 and no outlier on the cut, biases 0, norms 1 and 0."""
    torch.manual_seed(0)
    for name, module in medvit_t(num_classes=8).named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight, slack = module.weight.detach(), 6 / math.sqrt(module.weight.numel())
            assert abs(weight.mean().item()) < 0.02 * slack, name
            assert abs(weight.std().item() / 0.02 - 1) < slack, name
            assert weight.abs().max().item() < 0.14, name
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert (module.eps, module.momentum) == (1e-5, 0.1)
