"""The suite against the usual way: the same recipe and epochs, written as people write it.

    python -m tools.speed.usual_way [--epochs 3] [--rounds 3] [--dataset pneumoniamnist] [--limit 0]

Usual: medmnist's Dataset, torchvision transforms, DataLoader without workers, train, val and test evaluated after every
epoch. Ours: uint8 in memory, batches made on the device, val scored after an epoch, test once at the end. Both train
resnet18_28 by the official MedMNIST v2 recipe (Adam 1e-3, batch 128, mean and std 0.5) in fp32 on one thread. They
take turns; the speed-up is the median ratio of CPU time (wall time on CUDA). The recipe fixes no memory format: ours is
the protocol's channels_last, the usual way torch's default, which is a part of the speed-up. `--limit N` cuts the
training images for a quick look. Accuracies on test are printed: they agree up to noise, since orders and weights
differ. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from bench.data.loading import data_root, load
from bench.protocols.loading import load_protocol
from bench.protocols.schema import Protocol
from bench.stats.metrics import accuracy, auc, softmax
from bench.streams import Streams
from bench.training.trainer import SplitData, Trainer, predict
from models import create_model
from tools.speed.turns import clock, timed

MODEL = "resnet18_28"


def build(num_classes: int, seed: int) -> nn.Module:
    """The same network for both ways."""
    torch.manual_seed(seed)
    model: nn.Module = create_model(MODEL, num_classes=num_classes, in_chans=1, img_size=28)
    return model


def usual(dataset: str, epochs: int, limit: int, seed: int, device: str) -> tuple[float, float]:
    """Train as tutorials do; (AUC, ACC) on test."""
    import medmnist
    from torchvision import transforms

    info = medmnist.INFO[dataset]
    kind = getattr(medmnist, info["python_class"])
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean=[0.5], std=[0.5])])
    root = str(data_root(None))
    sets = {split: kind(split=split, transform=transform, root=root) for split in ("train", "val", "test")}
    train = Subset(sets["train"], range(limit)) if limit else sets["train"]
    loaders = {split: DataLoader(sets[split], batch_size=256) for split in ("val", "test")}
    loaders["train_at_eval"] = DataLoader(train, batch_size=256)
    loader = DataLoader(train, batch_size=128, shuffle=True)
    model = build(len(info["label"]), seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.CrossEntropyLoss()
    scores = (0.0, 0.0)
    for _ in range(epochs):
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_of(model(images.to(device)), labels.squeeze(1).long().to(device))
            loss.backward()
            optimizer.step()
            loss.item()
        model.eval()
        for name in ("train_at_eval", "val", "test"):
            parts, truth = [], []
            with torch.no_grad():
                for images, labels in loaders[name]:
                    parts.append(model(images.to(device)).cpu())
                    truth.append(labels)
            scores = score(torch.cat(truth).squeeze(1).numpy(), torch.cat(parts).numpy(), info["task"])
    return scores


def ours(dataset: str, epochs: int, limit: int, seed: int, device: str) -> tuple[float, float]:
    """The suite's own path, from file to test scores."""
    arrays = load(dataset, 28, download=False)
    content = load_protocol("medmnist-28").model_dump(mode="json")
    content["schedule"].update(epochs=epochs, name="constant", milestones=[])
    protocol = Protocol.model_validate(content)
    splits = {
        split: SplitData.from_arrays(arrays.images[split], arrays.labels[split], device)
        for split in ("train", "val", "test")
    }
    train = splits["train"]
    if limit:
        train = SplitData(train.images[:limit], train.labels[:limit])
    num_classes = len(arrays.info.class_names)
    trainer = Trainer(
        build(num_classes, seed).to(device),
        train,
        splits["val"],
        protocol,
        Streams(MODEL, dataset, seed),
        task=arrays.info.task,
        num_classes=num_classes,
    )
    trainer.fit()
    return score(arrays.labels["test"], predict(trainer.model, splits["test"], protocol), arrays.info.task)


def score(labels: np.ndarray, logits: np.ndarray, task: str) -> tuple[float, float]:
    """AUC and accuracy as medmnist defines them."""
    probs = softmax(logits)
    return float(auc(labels, probs, task.split(",")[0]) or 0.0), accuracy(labels, probs, task.split(",")[0])


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dataset", default="pneumoniamnist", choices=("pneumoniamnist", "breastmnist"))
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"usual": usual, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for seed in range(arguments.rounds):
        for name, way in ways.items():
            once = partial(way, arguments.dataset, arguments.epochs, arguments.limit, seed, arguments.device)
            spent, (auc_, acc) = timed(once, clock(arguments.device))
            seconds[name].append(spent)
            scores[name].append((auc_, acc))
            print(f"round {seed}, {name}: {spent:.1f} s, test AUC {auc_:.3f}, ACC {acc:.3f}", flush=True)
    ratios = [usual_ / ours_ for usual_, ours_ in zip(seconds["usual"], seconds["ours"], strict=True)]
    result: dict[str, Any] = {
        "speed_up": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "goal_on_cpu": 1.3,
        "dataset": arguments.dataset,
        "epochs": arguments.epochs,
        "train_images": arguments.limit or "all",
        "seconds": {name: [round(value, 1) for value in values] for name, values in seconds.items()},
        "test_acc": {name: [round(acc, 4) for _, acc in values] for name, values in scores.items()},
        "test_auc": {name: [round(auc_, 4) for auc_, _ in values] for name, values in scores.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
