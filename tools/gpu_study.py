"""The study's GPU part in pieces of some minutes: call it again until it says that nothing is left.

    python -m tools.gpu_study [--minutes 9] [--archive new.tar.gz] [--results results] [--mamba-sdist FILE]
                                   [--dry-run]

The most telling comes first: `lite-96` on BreastMNIST, one seed of `paper-224-scratch` there, the timing matrix, then
the rest. Each step is a `medbench` command on the results folder, so what is done is not done again, and a run that
the time cut off goes on from its checkpoint. Several runs share the GPU, but never beside a timing. With
`--mamba-sdist`, a source distribution of mamba-ssm, its kernel is built for this GPU alone before the timings, and
MedMamba is timed with it and without.

`--archive` holds what this and earlier pieces recorded and git does not know yet: unpack it at the repository's root
elsewhere, then `medbench verify --scores` and `medbench report`. Checkpoints of unfinished runs stay on the machine.
Exit code 0: nothing is left; 3: time is up; 1: a step failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.run_record import read_records
from bench.report.analysis_plan import LIGHT, OURS, TABLE_3

ROOT = Path(__file__).resolve().parent.parent
CARD = ",".join((OURS, *TABLE_3))
EVERY = ",".join((OURS, f"{OURS}_8m5", *TABLE_3, *LIGHT))
FLOORS = "floor/*,sklearn/*"
TIMED = f"{EVERY},{OURS}_no_*,medmamba_*,medvit_*"
BOTH = "breastmnist,pneumoniamnist"
DONE, FAILED, TIME_IS_UP = 0, 1, 3
GRACE_SECONDS = 60.0  # for runs to save their checkpoints, of the time that was given
KEPT = ("records", "timings")
GENCODE = re.compile(r"cc_flag\.append\(\"-gencode\"\)\s*cc_flag\.append\(\"arch=compute_(\d+),code=sm_\1\"\)")


@dataclass(frozen=True)
class Step:
    """A command of `medbench`, and whether exit code 1 may pass: weights that are not available skip a run, no more."""

    name: str
    arguments: tuple[str, ...]
    may_skip: bool = True


def runs(name: str, protocol: str, models: str, datasets: str, seeds: str, share: str) -> Step:
    """Runs on the GPU, as many at once as `share` of it allows."""
    chosen = ("--protocol", protocol, "--models", models, "--datasets", datasets, "--seeds", seeds)
    return Step(name, ("run", *chosen, "--device", "cuda", "--gpus-per-run", share))


def untimed() -> list[Step]:
    """What comes before the timings."""
    return [
        Step("floors", ("run", "--protocol", "lite-96,medmnist-28", "--models", FLOORS, "--datasets", BOTH)),
        runs("lite-96 on Breast", "lite-96", EVERY, "breastmnist", "0-2", "0.125"),
        runs("paper-224-scratch on Breast, one seed", "paper-224-scratch", CARD, "breastmnist", "0", "0.25"),
    ]


def rest(*, with_kernel: bool) -> list[Step]:
    """The timings, MedMamba's without mamba-ssm's kernel too where that is installed, and the other runs."""
    timing = ("measure", "timing", "--device", "cuda", "--models")
    without = [Step("MedMamba, torch scan", (*timing, "medmamba_*", "--scan", "torch"), may_skip=False)]
    return [
        Step("timing matrix", (*timing, TIMED), may_skip=False),
        *(without if with_kernel else []),
        Step("ablations", ("run", "--study", "ablation", "--device", "cuda", "--gpus-per-run", "0.125")),
        Step("Table 2", ("run", "--study", "table2", "--device", "cuda", "--gpus-per-run", "0.125")),
        runs("medmnist-28", "medmnist-28", "resnet18_28,resnet50_28", BOTH, "0-2", "0.125"),
        runs("lite-96 on Pneumonia", "lite-96", EVERY, "pneumoniamnist", "0-2", "0.125"),
        runs("paper-224-scratch", "paper-224-scratch", CARD, BOTH, "0-2", "0.25"),
        runs("medmnist-224", "medmnist-224", CARD, BOTH, "0-2", "0.25"),
    ]


def call(step: Step, results: Path, until: float) -> int:
    """Do a step until it ends or the time is up; then it gets SIGTERM, and its group SIGKILL after a grace."""
    command = [sys.executable, "-m", "bench.cli", *step.arguments, "--results", str(results)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return process.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
        return TIME_IS_UP
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
        raise
    finally:  # nothing of a step may run beside the next one
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def do(steps: Iterable[Step], results: Path, until: float) -> int:
    """Do the steps in order; one that fails is named and the next is tried."""
    worst = DONE
    for step in steps:
        if time.monotonic() >= until:
            print(f"{step.name}: not begun, the time is up", flush=True)
            return TIME_IS_UP
        print(f"{step.name}: medbench {' '.join(step.arguments)}", flush=True)
        code = call(step, results, until)
        if code == TIME_IS_UP:
            print(f"{step.name}: cut off, the time is up", flush=True)
            return TIME_IS_UP
        lost = unfinished(results) if code == 1 and step.may_skip else []
        if lost:
            print(f"{step.name}: {len(lost)} runs without scores, the first: {lost[0]}", flush=True)
        elif code not in ((0, 1) if step.may_skip else (0,)):
            print(f"{step.name}: ended with exit code {code}", flush=True)
        else:
            continue
        worst = FAILED
    return worst


def unfinished(results: Path) -> list[str]:
    """Runs that failed, or were skipped for want of their data; one skipped for want of weights is as it should be."""
    return [
        f"{record.run_id}: {record.failure.message}"
        for record in read_records(results)[0]
        if record.failure and (record.status == "failed" or record.failure.kind == "data")
    ]


def pack(results: Path, archive: Path) -> int:
    """Write what git does not know of the records and timings, all of them where git knows nothing; how many files."""
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--modified", "--exclude-standard", "-z", *KEPT],
        cwd=results,
        capture_output=True,
        check=False,
        text=True,
    )
    if listed.returncode:  # a copy of the working tree without its history
        names = [path.relative_to(results).as_posix() for kind in KEPT for path in sorted((results / kind).rglob("*"))]
    else:
        names = sorted(listed.stdout.split("\0"))
    names = [name for name in names if name and (results / name).is_file()]
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as file:
        for name in names:
            file.add(results / name, arcname=f"results/{name}")
    return len(names)


def for_one_architecture(setup: str, architecture: str) -> str:
    """mamba-ssm's setup.py without the code generation for other GPUs, which takes most of an hour.

    A card runs code for an earlier minor version of its own major one.

    Args:
        setup: The file's text.
        architecture: Compute capability without its point: `90`.

    Raises:
        ValueError: If the file names no architecture whose code the card runs.
    """
    fitting = [name for name in GENCODE.findall(setup) if name[:-1] == architecture[:-1] and name <= architecture]
    if not fitting:
        raise ValueError(f"this mamba-ssm has no kernel for compute capability {architecture}")
    return GENCODE.sub(lambda match: match[0] if match[1] == max(fitting) else "pass", setup)


def build_kernel(sdist: Path, until: float) -> bool:
    """Install mamba-ssm from its source distribution for this GPU; whether its kernel now runs."""
    import torch

    architecture = "".join(str(part) for part in torch.cuda.get_device_capability())
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(sdist) as file:
            file.extractall(folder, filter="data")
        (source,) = (path for path in Path(folder).iterdir() if path.is_dir())
        setup, package = source / "setup.py", source / "mamba_ssm" / "__init__.py"
        try:
            text = for_one_architecture(setup.read_text(encoding="utf-8"), architecture)
        except ValueError as error:
            print(f"mamba-ssm was not built: {error}", flush=True)
            return False
        setup.write_text(text, encoding="utf-8")
        # Its models need packages that the scan does not; the kernel alone is wanted.
        lines = package.read_text(encoding="utf-8").splitlines()
        package.write_text("".join(f"{line}\n" for line in lines if line.startswith("__version__")), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", str(source)]
        environment = os.environ | {"MAMBA_FORCE_BUILD": "TRUE", "MAX_JOBS": str(os.cpu_count() or 1)}
        try:
            subprocess.run(command, env=environment, check=True, timeout=max(0.0, until - time.monotonic()))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"mamba-ssm was not built: {error}", flush=True)
            return False
    return has_kernel()


def has_kernel() -> bool:
    """Whether mamba-ssm's kernel imports in a fresh process."""
    code = "import mamba_ssm.ops.selective_scan_interface"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    if tried.returncode and "No module named 'mamba_ssm'" not in tried.stderr:
        print(f"mamba-ssm's kernel does not import: {tried.stderr.strip().splitlines()[-1]}", flush=True)
    return tried.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the time allows, pack what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--mamba-sdist", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="print the steps")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes - GRACE_SECONDS
    if options.dry_run:
        for step in (*untimed(), *rest(with_kernel=options.mamba_sdist is not None)):
            print(f"{step.name}: medbench {' '.join(step.arguments)}")
        return DONE
    results = options.results.resolve()
    code = do(untimed(), results, until)
    if code != TIME_IS_UP:
        built = has_kernel() or options.mamba_sdist is None or build_kernel(options.mamba_sdist, until)
        code = max(code, DONE if built else FAILED, do(rest(with_kernel=has_kernel()), results, until))
    if options.archive is not None:
        print(f"{options.archive}: {pack(results, options.archive)} files")
    print({DONE: "nothing is left", FAILED: "a step failed", TIME_IS_UP: "time is up: call again"}[code])
    return code


if __name__ == "__main__":
    raise SystemExit(main())
