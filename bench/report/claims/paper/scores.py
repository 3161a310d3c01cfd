"""What the paper says of its own test scores: accuracies, areas under curves, classes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from bench.report.claims.checks import at_least, at_most, below, near, reachable, rounds, within
from bench.report.claims.registry import claim
from bench.report.claims.runs import class_score, highest, lowest, margin, reproduced
from bench.report.claims.sources import Sources
from bench.report.claims.terms import published
from bench.report.claims.values import Quantity, bound, leaf, printed
from bench.report.claims.verdict import Beside, Check, Parts, every
from bench.stats.metrics import auc


def _accuracy(sources: Sources, target: Quantity, dataset: str) -> Parts:
    """A printed accuracy can be a mean of runs on so many images, and lies in the interval of ours."""
    yield Check("records", reproduced(sources, target, dataset))
    yield Check("granularity", reachable(sources, target, dataset))


@claim("C002", "Test accuracy of one run or a mean of up to five; over what the average is taken is not stated.")
def organ_c_in_the_abstract(sources: Sources) -> Parts:
    """“MedSpectralNet achieves an average accuracy of 93.7% on OrganCMNIST”."""
    return _accuracy(sources, printed("93.7", "C002"), "organcmnist")


@claim("C003")
def blood_in_the_abstract(sources: Sources) -> Parts:
    """“98.0% on BloodMNIST”."""
    return _accuracy(sources, printed("98.0", "C003"), "bloodmnist")


@claim("C008", "The highest one-vs-rest AUC of a class, on OrganCMNIST, whose range section 4.3.1 gives.")
def highest_auc_of_a_class(sources: Sources) -> Parts:
    """“MedSpectralNet has also achieved high AUC values up to 0.999 across multiple classes”."""
    yield Check("records", near(highest(sources, "organcmnist", "auc"), printed("0.999", "C008"), margin()))


@claim("C056", "A definition, no result: what the same scores for every image give; 1.0 is perfect.")
def auc_of_a_random_model(_: Sources) -> Parts:
    """“An AUC of 0.5 indicates random performance, while AUC = 1.0 represents perfect discrimination”."""
    chance = auc(np.arange(2), np.full((2, 2), 0.5), "binary-class")
    yield Check("arithmetic", rounds(leaf(Fraction(chance or 0), "equal scores"), printed("0.5", "C056")))


@claim("C076", "Both ends, each within the analysis plan's margin: another training never gives the same three digits.")
def auc_range_on_organ_c(sources: Sources) -> Parts:
    """“The corresponding AUC values range from 0.972 to 0.999”."""
    yield Check("records", near(lowest(sources, "organcmnist", "auc"), printed("0.972", "C076"), margin()))
    yield Check("records", near(highest(sources, "organcmnist", "auc"), printed("0.999", "C076"), margin()))


@claim("C077", "Near-perfect: at least 0.95 in the class with the lowest printed AUC.")
def auc_near_perfect_in_every_class(sources: Sources) -> Parts:
    """“the near-perfect AUC values across all eleven classes”."""
    yield Check("arithmetic", at_least(printed("0.972", "C076"), bound(0.95)))
    mean = published(sources, "auto-sklearn (28 px)", "organcmnist", "auc")
    yield Beside("the lowest published mean over classes, auto-sklearn's", mean)


@claim("C078", "Average precision by class; both ends, each within the analysis plan's margin.")
def ap_range_on_organ_c(sources: Sources) -> Parts:
    """“with AUC values ranging from 0.922 to 0.992”."""
    yield Check("records", near(lowest(sources, "organcmnist", "ap"), printed("0.922", "C078"), margin()))
    yield Check("records", near(highest(sources, "organcmnist", "ap"), printed("0.992", "C078"), margin()))


@claim(
    "C079",
    "Both average precisions within the analysis plan's margin, and both below those of every other class.",
)
def ap_lowest_in_two_classes(sources: Sources) -> Parts:
    """“The slightly lower values observed for Class 3 (0.922) and Class 10 (0.935)”."""
    femur = near(class_score(sources, "organcmnist", "ap", 3), printed("0.922", "C079"), margin())
    spleen = near(class_score(sources, "organcmnist", "ap", 10), printed("0.935", "C079"), margin())
    others = lowest(sources, "organcmnist", "ap", 3, 10)
    lower = [below(class_score(sources, "organcmnist", "ap", index), others) for index in (3, 10)]
    yield Check("records", every(femur, spleen, *lower))


@claim("C080", "Near-perfect: an average precision of at least 0.95 in every class but 3 and 10.")
def ap_near_perfect_elsewhere(sources: Sources) -> Parts:
    """“For the remaining classes, the near-perfect values highlight the model’s ability”."""
    yield Check("records", at_least(lowest(sources, "organcmnist", "ap", 3, 10), bound(0.95)))


@claim("C081")
def organ_c_in_the_results(sources: Sources) -> Parts:
    """“with an average accuracy of 93.7%, indicating its ability to effectively distinguish”."""
    return _accuracy(sources, printed("93.7", "C081"), "organcmnist")


@claim("C094", "Within the analysis plan's margin.")
def auc_of_spleen_on_organ_s(sources: Sources) -> Parts:
    """“Class 10 with an AUC of 0.951”."""
    yield Check("records", near(class_score(sources, "organsmnist", "auc", 10), printed("0.951", "C094"), margin()))


@claim(
    "C095",
    "Narrow is a range of at most 0.05, high is at least 0.95 (chosen here). The AUC of class 10 (C094) must not "
    "break that, and no class of our runs may.",
)
def auc_range_is_narrow_and_high(sources: Sources) -> Parts:
    """“The corresponding AUC values span a narrow, high range”."""
    spleen = printed("0.951", "C094")
    yield Check("arithmetic", every(at_most(1 - spleen, bound(0.05)), at_least(spleen, bound(0.95))))
    low, high = lowest(sources, "organsmnist", "auc"), highest(sources, "organsmnist", "auc")
    yield Check("records", every(at_most(high - low, bound(0.05)), at_least(low, bound(0.95))))


@claim("C096", "Both ends, each within the analysis plan's margin.")
def ap_range_on_organ_s(sources: Sources) -> Parts:
    """“The wide range of average precision values (0.886 to 0.992)”."""
    yield Check("records", near(lowest(sources, "organsmnist", "ap"), printed("0.886", "C096"), margin()))
    yield Check("records", near(highest(sources, "organsmnist", "ap"), printed("0.992", "C096"), margin()))


@claim("C097", "Nearly every: an AUC of at least 0.95 in ten of the eleven classes or more.")
def auc_high_in_nearly_every_class(sources: Sources) -> Parts:
    """“ranks positive examples above negatives for nearly every class across all decision thresholds”."""
    yield Check("records", at_least(lowest(sources, "organsmnist", "auc", spared=1), bound(0.95)))


@claim(
    "C098",
    "Recalls of the eleven classes within 0.1 of each other (chosen here); whether that reduces bias is not judged.",
)
def sensitivity_is_balanced(sources: Sources) -> Parts:
    """“The balanced sensitivity across organ systems reduces systematic bias risks”."""
    low, high = lowest(sources, "organsmnist", "recall"), highest(sources, "organsmnist", "recall")
    yield Check("records", at_most(high - low, bound(0.1)))


@claim("C099", "Class 10 has a lower average precision than every other class.")
def spleen_is_the_exception(sources: Sources) -> Parts:
    """“The consistent performance across most classes except for Class 10”."""
    others = lowest(sources, "organsmnist", "ap", 10)
    yield Check("records", below(class_score(sources, "organsmnist", "ap", 10), others))


@claim("C113")
def organ_c_accuracy(sources: Sources) -> Parts:
    """“MedSpectralNet offers 93.7% accuracy on OrganCMNIST”."""
    return _accuracy(sources, printed("93.7", "C113"), "organcmnist")


@claim("C114")
def blood_accuracy(sources: Sources) -> Parts:
    """“98.0% accuracy on BloodMNIST, and strong performance”."""
    return _accuracy(sources, printed("98.0", "C114"), "bloodmnist")


@claim("C115")
def breast_accuracy(sources: Sources) -> Parts:
    """“BreastMNIST with 86.5%”."""
    return _accuracy(sources, printed("86.5", "C115"), "breastmnist")


@claim("C116")
def derma_accuracy(sources: Sources) -> Parts:
    """“DermaMNIST with 78.4%”."""
    return _accuracy(sources, printed("78.4", "C116"), "dermamnist")


@claim("C117")
def organ_s_accuracy(sources: Sources) -> Parts:
    """“OrganSMNIST with 83.1%”."""
    return _accuracy(sources, printed("83.1", "C117"), "organsmnist")


@claim("C118")
def pneumonia_accuracy(sources: Sources) -> Parts:
    """“PneumoniaMNIST with 94.2% accuracy”."""
    return _accuracy(sources, printed("94.2", "C118"), "pneumoniamnist")


@claim(
    "C145",
    "A macro AUC is the mean of the classes' AUCs, so it lies within their printed range (C076), in percent.",
)
def auc_of_organ_c_is_an_accuracy(sources: Sources) -> Parts:
    """“A high AUC in OrganCMNIST (93.7%)”."""
    low, high = 100 * printed("0.972", "C076"), 100 * printed("0.999", "C076")
    yield Check("arithmetic", within(printed("93.7", "C145"), low, high))
