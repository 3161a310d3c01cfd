"""How long commands take that train nothing: start-up, plan over 10,000 runs, report over 5,000 records.

    python -m tools.speed.start_up [--rounds 5] [--store FOLDER]

Each command runs in a process of its own, in turn with the others and with `python -c pass`, the interpreter's own
start. Wall time, CPU time and peak memory are medians over rounds. `--store` names a folder made by
`python -m tools.store`; then `report` over it is measured, once cold and once with nothing changed. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODELS = "medspectralnet,resnet18,resnet50,medvit_t,swin_t,convnext_t,medmamba_t"
SETS = "bloodmnist,breastmnist,dermamnist,pneumoniamnist,organcmnist,organsmnist"
SEEDS = "0-237"  # 7 models x 6 sets x 238 seeds = 9,996 runs
COMMANDS = {
    "python": ["-c", "pass"],
    "help": ["-m", "bench.cli", "--help"],
    "list models": ["-m", "bench.cli", "list", "models"],
    "plan of a study": ["-m", "bench.cli", "plan", "--study", "lite"],
    "plan of 9,996 runs": [
        *("-m", "bench.cli", "plan", "--json", "--protocol", "lite-96"),
        *("--models", MODELS, "--datasets", SETS, "--seeds", SEEDS),
    ],
}
GOALS = {"help": 0.3, "plan of a study": 1.5, "report, cold": 30.0, "report, nothing changed": 5.0}


def call(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a process; its output is thrown away."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure_report(store: Path) -> dict[str, tuple[float, float, float]]:
    """`report` over a large folder: without any cache, then again."""
    arguments = ["-m", "bench.cli", "report", "--results", str(store), "--reports", str(store / "reports")]
    for part in (".cache", "reports", "tables"):
        shutil.rmtree(store / part, ignore_errors=True)
    return {"report, cold": call(arguments), "report, nothing changed": call(arguments)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(arguments.rounds):
        for name, command in COMMANDS.items():
            measured[name].append(call(command))
    if arguments.store:
        measured |= {name: [times] for name, times in measure_report(arguments.store).items()}
    rows = []
    for name, calls in measured.items():
        wall, cpu, peak = (statistics.median(values) for values in zip(*calls, strict=True))
        rows.append({"what": name, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "peak_mib": round(peak)})
        goal = f" (goal {GOALS[name]} s)" if name in GOALS else ""
        print(f"{name}: {wall:.3f} s, CPU {cpu:.3f} s, {peak:.0f} MiB{goal}", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
