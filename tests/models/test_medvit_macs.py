"""What MedViT costs at 224 px by three counters, and the sizes that it takes.

The models are all zeros on the CPU: counts need no numbers, and to initialise one takes longer than to run it.
"""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.medvit import MedViT, medvit_l, medvit_s, medvit_t

BUILDERS = {"medvit_t": medvit_t, "medvit_s": medvit_s, "medvit_l": medvit_l}
# Specification, section 13, 3x224x224: torch's FlopCounterMode halved, thop, ptflops, all with 8 classes.
MACS = {
    "medvit_t": (5_856_517_312, 5_928_626_592, 5_911_840_944),
    "medvit_s": (8_355_847_360, 8_443_710_624, 8_421_379_332),
    "medvit_l": (10_855_177_408, 10_958_794_656, 10_930_917_720),
}
MACS_1000_CLASSES = {"medvit_t": 5_857_533_120, "medvit_s": 8_356_863_168, "medvit_l": 10_856_193_216}

every_medvit = pytest.mark.parametrize("name", sorted(BUILDERS))


def all_zero(name: str, num_classes: int = 8) -> MedViT:
    """A fresh model of zeros on the CPU, in eval mode; the counters leave things behind."""
    with torch.device("meta"):
        model = BUILDERS[name](num_classes=num_classes).eval()
    model = model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


@every_medvit
def test_macs_at_224_are_the_releases(name: str) -> None:
    """torch's counter, halved, gives section 13's numbers for 8 and 1,000 classes, attention included."""
    for num_classes, macs in ((8, MACS[name][0]), (1000, MACS_1000_CLASSES[name])):
        # The math kernel: the fused one counts as nothing on a CPU.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            all_zero(name, num_classes)(torch.zeros(1, 3, 224, 224))
        assert counter.get_total_flops() == 2 * macs


@every_medvit
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # thop imports distutils
def test_thop_and_ptflops_count_what_they_count_for_the_release(name: str) -> None:
    """thop agrees as it is; ptflops once it counts the fused h-swish and h-sigmoid as the release's ReLU6."""
    thop = pytest.importorskip("thop")
    ptflops = pytest.importorskip("ptflops")
    from ptflops.pytorch_ops import relu_flops_counter_hook as one_per_element

    macs, _ = thop.profile(all_zero(name), inputs=(torch.zeros(1, 3, 224, 224),), verbose=False)
    assert macs == MACS[name][1]
    macs, _ = ptflops.get_model_complexity_info(
        all_zero(name),
        (3, 224, 224),
        backend="pytorch",
        as_strings=False,
        print_per_layer_stat=False,
        custom_modules_hooks={nn.Hardswish: one_per_element, nn.Hardsigmoid: one_per_element},
    )
    assert macs == MACS[name][2]


@functools.cache
def shared_zero_model() -> MedViT:
    return all_zero("medvit_t")


@given(height=st.integers(25, 130), width=st.integers(25, 130))
@settings(max_examples=15, deadline=None)
def test_every_size_from_the_minimum_on_runs(height: int, width: int) -> None:
    """One instance takes all sizes, alone in a batch; its maps halve and round up five times."""
    model = shared_zero_model()
    with torch.no_grad():
        maps = model.features(model.stem(torch.zeros(1, 3, height, width)))
    assert maps.shape == (1, 1024, math.ceil(height / 32), math.ceil(width / 32))


def test_the_grad_cam_layer_has_a_map_at_every_protocols_size() -> None:
    """The last block's map is 7x7 at 224 px and 2x2 at 64 px; at 32 px and below it is 1x1, of no use to a CAM."""
    model = shared_zero_model()
    maps: list[torch.Size] = []
    handle = model.features[-1].register_forward_hook(lambda _module, _input, output: maps.append(output.shape[2:]))
    with torch.no_grad():
        for size in (224, 64, 32):
            model(torch.zeros(1, 3, size, size))
    handle.remove()
    assert maps == [(7, 7), (2, 2), (1, 1)]
