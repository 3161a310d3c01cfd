"""Kill a plan again and again, then let it finish: the same records, no litter.

    python -m tools.soak [--kills 30] [--runs 12] [--seed 0]

A plan of short runs on a synthetic set is done once undisturbed. Then the same plan is started, and SIGKILL comes
after a random time: to the driver alone, to one worker alone, or to all of its processes. That happens `--kills`
times, each time with the plan started anew, and one undisturbed call finishes it. Every wait is bounded. Exit code 1
if a record is missing, if a score or a table differs from the undisturbed plan's, or if a temporary file is left.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.records.run_record import read_records

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = """
extends = "smoke"
description = "Short epochs, long enough to be killed in the middle."
[schedule]
epochs = 12
"""
NET = '''
"""A small net with batch norm and dropout, slowed so that kills find it at work."""
import time
from torch import nn
from models import register_model


class Net(nn.Sequential):
    def forward(self, x):
        time.sleep(0.02)
        return super().forward(x)


@register_model(paper="none", source="the soak", code_license="MIT")
def soak_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return Net(
        nn.Conv2d(in_chans, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, num_classes),
    )
'''
LIMIT_SECONDS = 900
VICTIMS = ("driver", "worker", "everyone")


def start(folder: Path, results: str, runs: int, *more: str) -> subprocess.Popen[bytes]:
    """The plan's command, in a process group of its own, saving at every step."""
    arguments = ["run", "--protocol", "soak.toml", "--models", "soak_net", "--datasets", "synthetic-breastmnist"]
    arguments += ["--seeds", f"0-{runs - 1}", "--results", results, "--device", "cpu", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEDBENCH_CHECKPOINT_SECONDS": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench.cli", *arguments, "--plugin", "soak_net.py", *more],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def finish(folder: Path, results: str, runs: int) -> int:
    """An undisturbed call; its exit code. A run whose worker alone was killed has failed: it is done again."""
    return start(folder, results, runs, "--overwrite", "failed").wait(timeout=LIMIT_SECONDS)


def kill(process: subprocess.Popen[bytes], victim: str, draw: random.Random) -> bool:
    """SIGKILL to the victim; whether anybody was there."""
    if process.poll() is not None:
        return False
    if victim == "everyone":
        os.killpg(process.pid, signal.SIGKILL)
    elif victim == "driver":
        process.kill()
    else:
        workers = [child for child in psutil.Process(process.pid).children(recursive=True) if not child.children()]
        if not workers:  # still importing: everyone goes, uncounted
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
            return False
        draw.choice(sorted(workers, key=lambda child: child.pid)).kill()
        time.sleep(draw.uniform(0.0, 1.0))  # the driver may have recorded the kill as the run's failure, or not yet
        process.kill()
    process.wait(timeout=60)
    return True


def content(results: Path) -> dict[str, tuple[Any, ...]]:
    """What must be equal: scores and the digests of both tables."""
    records, problems = read_records(results)
    if problems:
        raise SystemExit(f"damaged: {problems[0]}")
    return {r.run_id: (r.status, r.val, r.test, r.predictions_sha256, r.history_sha256) for r in records}


def litter(results: Path) -> list[str]:
    """Files that a finished plan must not leave."""
    files = [path for path in results.rglob("*") if path.is_file()]
    return [str(path) for path in files if path.name.startswith(".tmp") or path.suffix in (".ckpt", ".tmp")]


def main() -> None:
    """Soak, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "soak.toml").write_text(PROTOCOL, encoding="utf-8")
        (folder / "soak_net.py").write_text(NET, encoding="utf-8")
        began = time.monotonic()
        assert finish(folder, "calm", arguments.runs) == 0
        calm_seconds = time.monotonic() - began
        landed = dict.fromkeys(VICTIMS, 0)
        while sum(landed.values()) < arguments.kills:
            victim = VICTIMS[sum(landed.values()) % len(VICTIMS)]
            process = start(folder, "soaked", arguments.runs)
            time.sleep(draw.uniform(0.0, calm_seconds / 2))
            if kill(process, victim, draw):
                landed[victim] += 1
                print(f"kill {sum(landed.values())}: {victim}, {len(content(folder / 'soaked'))} records", flush=True)
            elif len(content(folder / "soaked")) == arguments.runs:
                for path in sorted((folder / "soaked" / "records").rglob("seed*.*"))[: 3 * 4]:
                    path.unlink()  # all done before the kills were: make work for the rest
        code = finish(folder, "soaked", arguments.runs)
        calm, soaked, left = content(folder / "calm"), content(folder / "soaked"), litter(folder / "soaked")
        differing = [run for run in calm if soaked.get(run) != calm[run]]
        result = {
            "kills": landed,
            "runs": arguments.runs,
            "records": len(soaked),
            "differing": differing,
            "left": left,
            "exit_code": code,
            "seconds": round(time.monotonic() - began),
        }
    print(json.dumps(result))
    raise SystemExit(1 if differing or left or code or len(soaked) != arguments.runs else 0)


if __name__ == "__main__":
    main()
