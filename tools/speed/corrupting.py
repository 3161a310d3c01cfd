"""What corrupting test images costs beside predicting them: the track's pixels over one pass of ResNet-18 at 96 px.

    python -m tools.speed.corrupting [--rounds 5] [--dataset breastmnist]

Corrupting: all cells of `c28` on the test images. Predicting: the test images once, by `bench.training.trainer.predict`
under `lite-96`. The two take turns on one thread; the ratio is the median over rounds of CPU time a corrupted image
over CPU time a predicted one. The goal is at most 0.2. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from bench.machine import cpu_isa

cpu_isa.pin()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.data.corruptions import corrupt  # noqa: E402
from bench.data.loading import load  # noqa: E402
from bench.machine.foreign import cast  # noqa: E402
from bench.protocols.loading import load_protocol  # noqa: E402
from bench.tracks.loading import load_track  # noqa: E402
from bench.tracks.schema import cells  # noqa: E402
from bench.training.trainer import DTYPES, FORMATS, SplitData, predict  # noqa: E402
from models import create_model  # noqa: E402
from tools.speed.turns import median_ratio, take_turns  # noqa: E402

MODEL, PROTOCOL, TRACK = "resnet18", "lite-96", "c28"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dataset", default="breastmnist")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    protocol, track, dataset = load_protocol(PROTOCOL), load_track(TRACK), arguments.dataset
    arrays = load(dataset, protocol.data.source_size, download=False)
    images, indices = arrays.images["test"], np.arange(len(arrays.labels["test"]))
    data, numerics = SplitData.from_arrays(images, arrays.labels["test"], "cpu"), protocol.numerics
    model = create_model(MODEL, num_classes=arrays.info.num_classes, in_chans=3, img_size=protocol.data.img_size)
    model = cast(model, DTYPES[numerics.precision], FORMATS[numerics.memory_format])
    every = list(cells())
    times = take_turns(
        {
            "corrupting": lambda: [corrupt(images, indices, track, dataset, cell) for cell in every],
            "predicting": lambda: predict(model, data, protocol),
        },
        arguments.rounds,
    )
    per_cell = [seconds / len(every) for seconds in times["corrupting"]]
    row = {
        "dataset": dataset,
        "corrupting_us_an_image": round(1e6 * statistics.median(per_cell) / len(indices), 1),
        "predicting_us_an_image": round(1e6 * statistics.median(times["predicting"]) / len(indices), 1),
        "ratio": round(median_ratio(per_cell, times["predicting"]), 5),
        "goal": 0.2,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
