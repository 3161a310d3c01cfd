"""What the paper reads off its two confusion matrices."""

from __future__ import annotations

from bench.report.claims.checks import at_least, at_most
from bench.report.claims.registry import claim
from bench.report.claims.sources import Sources
from bench.report.claims.terms import class_images, images, published
from bench.report.claims.values import Quantity, bound, printed, stated, summed
from bench.report.claims.verdict import Beside, Check, Parts, either, possible, sufficient

CONSTANT = "SAM ViT-B/16, MedMNIST+ linear probe, constant predictor (28 px)"  # its accuracy: the largest class's share


def _right(sources: Sources, dataset: str) -> Quantity:
    """How many test images the printed accuracy gets right."""
    return stated(dataset) / 100 * images(sources, dataset, "test")


def _wrong(sources: Sources, dataset: str) -> Quantity:
    """How many it gets wrong."""
    return (100 - stated(dataset)) / 100 * images(sources, dataset, "test")


def _fit(count: Quantity, room: Quantity) -> Parts:
    """Cells of a matrix can be no more than the images that there are for them."""
    why = "the counts are cells of a matrix whose predictions are not public"
    yield Check("arithmetic", possible(at_most(count, room), why))


def _near_perfect(sources: Sources, count: Quantity, dataset: str) -> Parts:
    """Class 6 has a recall of at least 95 %, even if it were as large as the largest class."""
    largest = published(sources, CONSTANT, dataset) / 100 * images(sources, dataset, "test")
    from_above = "the share of the largest class bounds that of class 6 from above"
    enough = sufficient(at_least(100 * count / largest, bound(95, "%")), from_above)
    yield Check("published", either(enough, at_least(100 * count / class_images(sources, dataset, 6), bound(95, "%"))))


@claim(
    "C068",
    "Near-perfect: a recall of at least 95 %, if the count is right. No class is larger than the majority class, "
    "whose share a published constant predictor tells, so the recall is at least what is found.",
)
def liver_on_organ_c(sources: Sources) -> Parts:
    """“Class 6 achieves near-perfect classification with 1,819 correct predictions”."""
    return _near_perfect(sources, printed("1,819", "C068"), "organcmnist")


@claim("C069", "The nine counts fit into the correct predictions that 93.7 % gives.")
def correct_on_organ_c(sources: Sources) -> Parts:
    """“with 731, 396, 391, 390, 542, 552, 711, and 933 correct predictions, respectively”."""
    correct = summed("C069", "731", "396", "391", "390", "542", "552", "711", "933") + printed("1,819", "C068")
    return _fit(correct, _right(sources, "organcmnist"))


@claim("C070", "The errors fit into those that 93.7 % leaves.")
def errors_of_class_4_on_organ_c(sources: Sources) -> Parts:
    """“with 71 samples misclassified as Class 10, 56 as Class 5, and 21 as Class 9”."""
    return _fit(summed("C070", "71", "56", "21"), _wrong(sources, "organcmnist"))


@claim("C071", "With those of C070 the errors fit into those that 93.7 % leaves.")
def errors_of_class_5_on_organ_c(sources: Sources) -> Parts:
    """“confusion with Class 4 (41 misclassifications) and moderate errors toward Class 0 (34 instances)”."""
    errors = summed("C071", "41", "34") + summed("C070", "71", "56", "21")
    return _fit(errors, _wrong(sources, "organcmnist"))


@claim("C072", "With those of C070 and C071 the errors fit into those that 93.7 % leaves.")
def errors_of_class_0_on_organ_c(sources: Sources) -> Parts:
    """“Class 0 displays notable confusion with Class 9 (49 misclassifications)”."""
    errors = printed("49", "C072") + summed("C071", "41", "34") + summed("C070", "71", "56", "21")
    return _fit(errors, _wrong(sources, "organcmnist"))


@claim(
    "C088",
    "Near-perfect: a recall of at least 95 %. The majority class, whose share a published constant predictor tells,"
    " gives a recall of at least what is found; the recall itself needs the number of images of class 6.",
)
def liver_on_organ_s(sources: Sources) -> Parts:
    """“Class 6 achieves near-perfect performance where 1,826 samples give correct predictions”."""
    return _near_perfect(sources, printed("1,826", "C088"), "organsmnist")


@claim("C089", "Six classes with at least 389 each, and class 6, fit into the correct predictions that 83.1 % gives.")
def correct_on_organ_s(sources: Sources) -> Parts:
    """“demonstrate strong accuracy with a range of 389–741 correct predictions”."""
    return _fit(6 * printed("389", "C089") + printed("1,826", "C088"), _right(sources, "organsmnist"))


@claim("C090", "The errors fit into those that 83.1 % leaves.")
def errors_of_class_4_on_organ_s(sources: Sources) -> Parts:
    """“with 72 misclassifications as Class 10, 39 as Class 5, and 19 as Class 9”."""
    yield from _fit(summed("C090", "72", "39", "19"), _wrong(sources, "organsmnist"))
    yield Beside("the same three cells for OrganCMNIST (C070), summed", summed("C070", "71", "56", "21"))


@claim(
    "C091",
    "Both directions and the other errors of C090 fit into those that 83.1 % leaves; the two directions have the "
    "same printed count.",
)
def errors_of_class_10_on_organ_s(sources: Sources) -> Parts:
    """“Class 10 shows reciprocal confusion with Class 4 (72 instances)”."""
    return _fit(printed("72", "C091") + summed("C090", "72", "39", "19"), _wrong(sources, "organsmnist"))
