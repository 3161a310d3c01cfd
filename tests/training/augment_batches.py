"""Batches and protocols for the tests of bench.training.augment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import bench.training.augment as module
from bench.protocols.schema import Protocol
from bench.training.augment import augment

EVERYTHING: dict[str, Any] = {
    "horizontal_flip": 0.5,
    "rotation_degrees": 10.0,
    "translation": 0.1,
    "scale": (0.9, 1.1),
    "shear_degrees": 5.0,
    "perspective": 0.2,
    "perspective_p": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.1,
    "blur_kernel": 3,
    "blur_p": 0.5,
    "erasing_p": 0.5,
    "cutmix_p": 1.0,
}


def make_protocol(
    img_size: int = 16,
    *,
    interpolation: str = "bilinear",
    channels: str = "native",
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    **changes: Any,
) -> Protocol:
    return Protocol.model_validate(
        {
            "name": "test",
            "description": "for a test",
            "data": {
                "source_size": 28,
                "img_size": img_size,
                "interpolation": interpolation,
                "channels": channels,
                "mean": mean,
                "std": std,
            },
            "augment": changes,
            "init": {"kind": "scratch"},
            "optim": {"name": "adam", "lr": 0.001},
            "schedule": {"name": "constant", "epochs": 1, "batch_size": 2},
            "numerics": {"precision": "fp32", "memory_format": "contiguous"},
            "select": "val_auc",
        }
    )


def make_images(batch_size: int = 6, num_channels: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch_size, num_channels, size, size), dtype=torch.uint8, generator=generator)


def make_smooth(batch_size: int = 6, num_channels: int = 1, size: int = 16) -> Tensor:
    """Images without jumps, so that sampling twice and once agree."""
    y, x = torch.meshgrid(torch.linspace(0, 2.0, size), torch.linspace(0, 3.0, size), indexing="ij")
    phase = torch.arange(batch_size * num_channels).reshape(batch_size, num_channels, 1, 1)
    return (127.5 * (1 + torch.sin(x + phase) * torch.cos(y))).to(torch.uint8)


def augment_seeded(
    images: Tensor, protocol: Protocol, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    labels = torch.arange(len(images)) % 3
    torch.manual_seed(seed)
    return augment(images, labels, protocol, 3, dtype=dtype)


def draws_of(batch_size: int, seed: int = 0) -> dict[str, Tensor]:
    """The numbers that `augment` draws from this seed."""
    torch.manual_seed(seed)
    return module._draw(batch_size, torch.device("cpu"), torch.float32)


def to_unit(images: Tensor) -> Tensor:
    return images.float() / 255
