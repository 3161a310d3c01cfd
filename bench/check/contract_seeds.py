"""The contract's checks of randomness: weights and training follow from the seed, and from nothing else."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor

from bench.check.contract_subject import SEED, Broken, Subject, step_digest

# Parameters that start from a formula and not from the seed: model, parameter (shell patterns), why.
FORMULAS = (("*mamba_*", "*.A_logs", "A starts as in S4D-real: every row is log(1), log(2), ..."),)
NOT_DRAWN = "not drawn from the seed, but loaded from a file, written as a formula, or seeded in the builder"


def check_initialisation(subject: Subject) -> str:
    """The same seed gives the same weights, in this process and in the first build of a fresh one."""
    if subject.digest != subject.twin_digest:
        raise Broken("two builds from the same seed differ")
    if subject.fresh().weights != subject.twin_digest:
        raise Broken("the first build of a process differs from later ones: something is drawn once")
    return "same seed, same weights, in a fresh process too"


def check_seeds(subject: Subject) -> str:
    """Another seed gives other values in every parameter that does not hold one value throughout, as biases may."""
    other = dict(subject.build(seed=SEED + 1).named_parameters())
    drawn, equal = 0, []
    listed = [rule for rule in FORMULAS if fnmatchcase(subject.name, rule[0])]
    reasons = set()
    for name, parameter in subject.model.named_parameters():
        if not torch.equal(parameter, other[name]):
            drawn += 1
        elif not _is_constant(parameter):
            reason = next((rule[2] for rule in listed if fnmatchcase(name, rule[1])), "")
            reasons.add(reason)
            equal += [] if reason else [name]
    if not drawn:
        raise Broken(f"every parameter is {NOT_DRAWN}: two seeds give the same weights")
    if equal:
        raise Broken(f"{len(equal)} parameters are {NOT_DRAWN}: two seeds give the same {', '.join(equal[:3])}")
    return "; ".join([f"{drawn} parameters differ between two seeds, the others hold one value", *sorted(reasons)])


def _is_constant(parameter: Tensor) -> bool:
    """Whether a tensor holds one value throughout; an empty one does."""
    return bool((parameter == parameter.flatten()[:1]).all())


def check_training_step(subject: Subject) -> str:
    """A training step from the same weights and seeds is bit-equal, in this process twice and in a fresh one."""
    first, second = (step_digest(subject.twin(), subject.x_BCHW) for _ in range(2))
    if first != second:
        raise Broken(
            "two training steps from the same weights and seeds differ: something draws from a generator of its own, "
            "or keeps what no state dict holds"
        )
    if subject.fresh().weights == subject.digest and subject.fresh().step != first:
        raise Broken("a training step in a fresh process differs: something depends on the process")
    return "bit-equal twice, and in a fresh process"
