"""Kill, stop and interrupt a plan again and again, then let it finish: the same records, no litter, nothing running.

    python -m tools.soak [--kills 30] [--terms 10] [--interrupts 10] [--servers 5] [--runs 12] [--seed 0]

A plan of short runs on a synthetic set is done once undisturbed. Then the same plan is started anew for each blow,
which comes after a random time, imports included: SIGKILL to the driver, to one worker or to all of its processes;
SIGTERM to all, the driver last, as schedulers and containers stop a job; Ctrl-C to all; SIGKILL to the fork server.
At the end one undisturbed call finishes the plan, beside a `merge` of other runs and two `report`s. Every wait is
bounded. Exit code 1 if a record is missing, if a score or a table differs from the undisturbed plan's, if a run is
recorded as failed for an interruption, if an exit code is wrong, or if a process or temporary file is left. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
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
LONGEST_SECONDS = 15.0  # from a plan's start, or from what a blow waits for, to the blow
END_SECONDS = 90.0  # in which what was interrupted has saved and ended
KILLS = ("driver", "worker", "everyone")  # SIGKILL
BELOW = {"worker": 2, "servers": 1}  # blow -> processes below the driver that it waits for: the server, a worker
# Blow -> exit code of the driver, if it had not just finished; a shell says the same of one whose Python still starts.
CODES = {"terms": 143, "interrupts": 130, "servers": 143}


@dataclass
class Soak:
    """A folder with a plan, and what blows have shown so far.

    Attributes:
        folder: Where it happens.
        runs: Of the plan.
        draw: Where and when blows land.
        landed: Blows that found the plan at work, by kind.
        wrong: What should not have happened.
    """

    folder: Path
    runs: int
    draw: random.Random
    landed: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def command(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command of the suite in a session of its own, saving at every step."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEDBENCH_CHECKPOINT_SECONDS": "0"}
        environment["TMPDIR"] = str(self.folder / "tmp")
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "bench.cli", *arguments],
                cwd=self.folder,
                env=environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def start(self, results: str, *more: str, first: int = 0) -> subprocess.Popen[bytes]:
        """The plan's command."""
        arguments = ["run", "--protocol", "soak.toml", "--models", "soak_net", "--datasets", "synthetic-breastmnist"]
        arguments += ["--seeds", f"{first}-{first + self.runs - 1}", "--results", results, "--device", "cpu"]
        return self.command(*arguments, "--jobs", "2", "--plugin", "soak_net.py", *more)

    def finish(self, results: str, first: int = 0) -> float:
        """An undisturbed call, its seconds. A run whose worker alone was killed has failed: it is done again."""
        began = time.monotonic()
        self.expect(self.start(results, "--overwrite", "failed", first=first), "run", 0)
        return time.monotonic() - began

    def expect(self, process: subprocess.Popen[bytes], what: str, *codes: int) -> None:
        """Wait for a command's end; another exit code than these is wrong."""
        if process.wait(timeout=LIMIT_SECONDS) not in codes:
            self.wrong.append(f"{what} ended with {process.returncode}, not {codes}")

    def strike(self, kind: str, longest: float) -> None:
        """Start the plan, let a blow of a kind land within so many seconds, and look at what it left."""
        process = self.start("soaked")
        if kind in BELOW:
            self.wait_for(process, BELOW[kind])
        time.sleep(self.draw.uniform(0.0, longest))
        if process.poll() is not None:
            self.make_work()
            return
        landed = self.blow(process, kind)
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"{kind}: the driver went on for {END_SECONDS:g} s")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not landed:
            return
        self.landed[kind] = self.landed.get(kind, 0) + 1
        if kind in CODES and process.returncode not in (0, CODES[kind], 128 - CODES[kind]):
            self.wrong.append(f"{kind}: the driver ended with {process.returncode}")
        if left := self.still_running(process.pid):
            self.wrong.append(f"{kind}: left running: {left}")
        self.check_failures(kind)
        print(f"{self.landed}, {len(content(self.folder / 'soaked'))} records", flush=True)

    def wait_for(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Wait until a driver has so many processes below it; its end is no reason to wait on."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                if len(psutil.Process(process.pid).children(recursive=True)) >= number:
                    return
            time.sleep(0.05)

    def blow(self, process: subprocess.Popen[bytes], kind: str) -> bool:
        """Whether what should be hit was there."""
        below = psutil.Process(process.pid).children(recursive=True)
        if kind == "everyone":
            os.killpg(process.pid, signal.SIGKILL)
        elif kind == "driver":
            process.kill()
        elif kind == "interrupts":
            os.killpg(process.pid, signal.SIGINT)
        elif kind == "terms":
            for member in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.terminate()
            time.sleep(self.draw.uniform(0.0, 1.0))
            process.terminate()
        elif kind == "servers" and below:
            below[0].kill()
        elif kind == "worker" and below[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.draw.choice(sorted(below[1:], key=lambda child: child.pid)).kill()
            time.sleep(self.draw.uniform(0.0, 1.0))  # the driver may have recorded the kill, or not yet
            process.kill()
        else:  # still importing: everyone goes, uncounted
            os.killpg(process.pid, signal.SIGKILL)
            return False
        return True

    def still_running(self, session: int) -> list[str]:
        """Processes of a session that do not end by themselves."""
        deadline = time.monotonic() + END_SECONDS
        while (left := _in_session(session)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def check_failures(self, kind: str) -> None:
        """A run may have failed for a worker's SIGKILL, which is how memory runs out, and for nothing else."""
        for record in read_records(self.folder / "soaked")[0]:
            if record.failure is not None and (record.failure.kind != "oom" or "SIGKILL" not in record.failure.message):
                self.wrong.append(f"after {kind}: {record.run_id} {record.status}: {record.failure.message}")

    def make_work(self) -> None:
        """All runs were done before the blow: some are to be done again."""
        for path in sorted((self.folder / "soaked" / "records").rglob("seed*.*"))[: 3 * 4]:
            path.unlink()

    def finish_in_company(self) -> None:
        """The last call, while other runs are merged into the same folder and two reports are made of it."""
        others = [self.command("merge", "others", "--results", "soaked")]
        others += [self.command("report", "--results", "soaked", "--reports", f"reports{k}") for k in range(2)]
        self.finish("soaked")
        for process, what in zip(others, ("merge", "report", "report"), strict=True):
            self.expect(process, what, 0)
            self.wrong += [f"{what} left running: {name}" for name in self.still_running(process.pid)]


def _in_session(session: int) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
    return found


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


def soak(folder: Path, runs: int, blows: dict[str, int], seed: int) -> dict[str, Any]:
    """Do it all in a folder; the result, of which `wrong`, `differing`, `missing` and `left` should be empty."""
    began = time.monotonic()
    (folder / "tmp").mkdir()
    (folder / "soak.toml").write_text(PROTOCOL, encoding="utf-8")
    (folder / "soak_net.py").write_text(NET, encoding="utf-8")
    it = Soak(folder, runs, random.Random(seed))
    calm_seconds = it.finish("calm")
    it.finish("others", first=runs)
    caches = set((folder / "tmp").iterdir())  # torch's, which every run may use
    order = [kind for kind, number in blows.items() for _ in range(number)]
    it.draw.shuffle(order)
    for kind in order:
        before = it.landed.get(kind, 0)
        while it.landed.get(kind, 0) == before:
            it.strike(kind, min(calm_seconds / 2, LONGEST_SECONDS))
    it.finish_in_company()
    expected = content(folder / "calm") | content(folder / "others")
    soaked = content(folder / "soaked")
    return {
        "blows": it.landed,
        "runs": runs,
        "records": len(soaked),
        "wrong": it.wrong,
        "missing": sorted(expected.keys() - soaked.keys()),
        "differing": [run for run in expected if run in soaked and soaked[run] != expected[run]],
        "left": litter(folder / "soaked") + [str(path) for path in set((folder / "tmp").iterdir()) - caches],
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    """Soak, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in {"kills": 30, "terms": 10, "interrupts": 10, "servers": 5, "runs": 12, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    given = parser.parse_args()
    blows = {kind: given.kills // len(KILLS) for kind in KILLS} | {kind: getattr(given, kind) for kind in CODES}
    with tempfile.TemporaryDirectory() as name:
        result = soak(Path(name), given.runs, blows, given.seed)
    print(json.dumps(result))
    raise SystemExit(1 if any(result[key] for key in ("wrong", "missing", "differing", "left")) else 0)


if __name__ == "__main__":
    main()
