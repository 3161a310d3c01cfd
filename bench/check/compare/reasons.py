"""Why may two runs of one id have other scores? What their records show of it. No torch."""

from __future__ import annotations

from bench.records.run_record import Record

COMPUTED_BY = {  # field -> what it says of how a run was computed
    "cpu_isa": "instruction set",
    "device": "device",
    "num_threads": "number of threads",
    "scan_backend": "selective scan",
}
ONLY_SOME_STATE = ("scan_backend",)  # None where the model has none
SAME = "same instruction set, versions, code and device: "


def origins(a: Record, b: Record) -> str:
    """What the records show that can have made their scores differ, in words; several things may be named.

    Where they show nothing, the text says so: with all of it stated and equal, the scores should be equal bit for bit.
    """
    shown = [text for name, words in COMPUTED_BY.items() if (text := _other(a, b, name, words))]
    shown += [text for text in (_settings(a, b), _versions(a, b), _code(a, b)) if text]
    unstated = _unstated(a, b)
    if shown:
        return ", ".join(shown) + (f" (not stated: {', '.join(unstated)})" if unstated else "")
    if unstated:
        return f"the records show no reason and do not state {', '.join(unstated)}"
    on_gpu = str(a.device).startswith("cuda")
    return SAME + ("a GPU does not promise equal bits" if on_gpu else "this should have been bit-equal")


def _other(a: Record, b: Record, name: str, words: str) -> str:
    first, second = getattr(a, name, None), getattr(b, name, None)
    return f"other {words} ({first} and {second})" if None not in (first, second) and first != second else ""


def _settings(a: Record, b: Record) -> str:
    """Environment variables that hold numeric libraries at an instruction set."""
    first, second = a.cpu_environment, b.cpu_environment
    if first is None or second is None:
        return ""
    names = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
    return f"other settings of numeric libraries ({', '.join(names)})" if names else ""


def _versions(a: Record, b: Record) -> str:
    if not a.packages or not b.packages:
        return ""
    changed = [
        f"{name} {a.packages.get(name, 'none')} and {b.packages.get(name, 'none')}"
        for name in sorted({*a.packages, *b.packages})
        if a.packages.get(name) != b.packages.get(name)
    ]
    return f"other versions ({', '.join(changed)})" if changed else ""


def _code(a: Record, b: Record) -> str:
    """Commits, and changes that no commit holds; the model's own file is equal, or the runs would not be compared."""
    reasons = []
    if a.commit and b.commit and a.commit != b.commit:
        reasons.append(f"commits {a.commit[:7]} and {b.commit[:7]}")
    changed = [letter for letter, record in (("A", a), ("B", b)) if record.dirty]
    if changed:
        reasons.append(f"uncommitted changes in {' and '.join(changed)}")
    return f"other code ({', '.join(reasons)})" if reasons else ""


def _unstated(a: Record, b: Record) -> list[str]:
    """What one of the records lacks, so that it cannot be compared."""
    missing = [
        words
        for name, words in COMPUTED_BY.items()
        if name not in ONLY_SOME_STATE and None in (getattr(a, name, None), getattr(b, name, None))
    ]
    missing += [] if a.packages and b.packages else ["package versions"]
    return missing + ([] if None not in (a.commit, b.commit, a.dirty, b.dirty) else ["commit"])
