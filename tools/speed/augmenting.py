"""What it saves to change images at the source size: the paper's augmentation, three ways, on one batch.

    python -m tools.speed.augmenting [--rounds 7] [--batch 32]

Ours: colour at 28 px, then one warp from the 28 px source to 224 px. Enlarged first: the same code on the same images
already at 224 px, which gives the same picture up to rounding. Image by image: torchvision's transforms, one image
after another, as a Dataset would. Gray images and colour images, `paper-224-scratch`, one thread. The ways take turns;
times are medians of CPU time in ms a batch, ratios are medians within rounds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from bench.protocols.loading import load_protocol
from bench.protocols.schema import Protocol
from bench.training.augment import augment
from tools.speed.turns import median_ratio, take_turns

PROTOCOL, SOURCE = "paper-224-scratch", 28
NUM_CLASSES = 8


def one_by_one(protocol: Protocol) -> v2.Compose:
    """The protocol's changes as torchvision writes them, for one image."""
    rules, data = protocol.augment, protocol.data
    steps: list[object] = [
        v2.Resize((data.img_size, data.img_size), antialias=False),
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomHorizontalFlip(rules.horizontal_flip),
        v2.ColorJitter(rules.brightness, rules.contrast, rules.saturation, rules.hue),
        v2.RandomAffine(rules.rotation_degrees, (rules.translation,) * 2, rules.scale, rules.shear_degrees or None),
        v2.RandomPerspective(rules.perspective, rules.perspective_p),
    ]
    if rules.blur_kernel:
        steps.append(v2.RandomApply([v2.GaussianBlur(rules.blur_kernel, rules.blur_sigma)], rules.blur_p))
    steps.append(v2.Normalize(data.mean, data.std))
    if rules.erasing_p:
        steps.append(v2.RandomErasing(rules.erasing_p))
    return v2.Compose(steps)


def ways(images: Tensor, labels: Tensor, protocol: Protocol) -> dict[str, Callable[[], object]]:
    """Name -> one batch by that way."""
    size = (protocol.data.img_size, protocol.data.img_size)
    enlarged = F.interpolate(images.float(), size, mode="bilinear", align_corners=False).round().to(torch.uint8)
    single, colour = one_by_one(protocol), images.expand(-1, 3, -1, -1).contiguous()
    return {
        "ours": lambda: augment(images, labels, protocol, NUM_CLASSES, dtype=torch.float32),
        "enlarged first": lambda: augment(enlarged, labels, protocol, NUM_CLASSES, dtype=torch.float32),
        "image by image": lambda: torch.stack([single(image) for image in colour]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    protocol, rows = load_protocol(PROTOCOL), []
    for kind, channels in (("gray", 1), ("colour", 3)):
        torch.manual_seed(0)
        images = torch.randint(0, 256, (arguments.batch, channels, SOURCE, SOURCE), dtype=torch.uint8)
        labels = torch.randint(0, NUM_CLASSES, (arguments.batch,))
        times = take_turns(ways(images, labels, protocol), arguments.rounds)
        for name, values in times.items():
            row = {
                "images": kind,
                "way": name,
                "ms": round(1000 * statistics.median(values), 1),
                "times_ours": round(median_ratio(values, times["ours"]), 2),
            }
            rows.append(row)
            print(
                f"{kind}, {name}: {row['ms']} ms a batch of {arguments.batch}, {row['times_ours']} x ours", flush=True
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
