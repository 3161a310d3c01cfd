"""What the paper says of the data sets: how many, their classes, channels and sizes."""

from __future__ import annotations

from dataclasses import replace

from bench.data.names import PAPER_DATASETS
from bench.report.claims.checks import above, at_least, at_most, class_named, equals, rounds
from bench.report.claims.paper.confusions import CONSTANT
from bench.report.claims.registry import claim
from bench.report.claims.sources import Sources
from bench.report.claims.terms import (
    images,
    imbalance,
    least_imbalance,
    num_channels,
    num_classes,
    sets_stated,
    smallest_share,
)
from bench.report.claims.values import bound, listed, printed
from bench.report.claims.verdict import FAILS, UNDECIDED, Check, Parts
from bench.report.published.names import dataset_name


@claim("C001", "The sets for which the text prints an accuracy of its own (C113 to C118).")
def six_sets_in_the_abstract(sources: Sources) -> Parts:
    """“MedSpectralNet is evaluated across six benchmark datasets from MedMNIST”."""
    yield Check("data", rounds(sets_stated(sources), printed("six", "C001")))


@claim("C016", "As C001.")
def six_sets_in_the_introduction(sources: Sources) -> Parts:
    """“six medical imaging datasets from the MedMNIST benchmark”."""
    yield Check("data", rounds(sets_stated(sources), printed("six", "C016")))


@claim("C041")
def blood_classes(sources: Sources) -> Parts:
    """“organized into 8 classes”."""
    yield Check("data", rounds(num_classes(sources, "bloodmnist"), printed("8", "C041")))


@claim("C042")
def blood_images(sources: Sources) -> Parts:
    """“It has 17,092 microscope images”."""
    yield Check("data", rounds(images(sources, "bloodmnist"), printed("17,092", "C042")))


@claim("C043", "The data set's labels, not those of the images that it was made from.")
def breast_classes(sources: Sources) -> Parts:
    """“classified mainly into normal, benign, and malignant classes”."""
    yield Check("data", equals(num_classes(sources, "breastmnist"), listed("C043", "normal", "benign", "malignant")))


@claim("C044")
def pneumonia_is_binary(sources: Sources) -> Parts:
    """“PneumoniaMNIST focuses on binary classification of chest X-ray images”."""
    yield Check("data", equals(num_classes(sources, "pneumoniamnist"), bound(2, "classes")))


@claim("C045", "“Colored”: the images have three channels.")
def organ_c_is_coloured(sources: Sources) -> Parts:
    """“multi-class classification of colored abdominal organ images”."""
    yield Check("data", equals(num_channels(sources, "organcmnist"), bound(3, "channels")))


@claim("C046", "More than two labels; that the images are CT slices is not judged.")
def organ_s_is_multi_class(sources: Sources) -> Parts:
    """“OrganSMNIST dataset is derived from abdominal CT scans and focuses on multi-class organ classification”."""
    yield Check("data", above(num_classes(sources, "organsmnist"), bound(2, "classes")))


@claim("C047", "As C001; that the section describes five of them is not judged.")
def six_sets_in_the_methods(sources: Sources) -> Parts:
    """“Six datasets from MedMNIST [13] have been used”."""
    yield Check("data", rounds(sets_stated(sources), printed("six", "C047")))


@claim("C059")
def organ_sets_are_the_largest(sources: Sources) -> Parts:
    """“Among the six selected datasets, OrganCMNIST and OrganSMNIST contain the largest number of samples”."""
    for smaller in ("bloodmnist", "dermamnist", "pneumoniamnist", "breastmnist"):
        yield Check("data", above(images(sources, "organcmnist"), images(sources, smaller)))
    yield Check("data", above(images(sources, "organsmnist"), images(sources, "bloodmnist")))


@claim("C075")
def organ_c_classes(sources: Sources) -> Parts:
    """“across all 11 organ classes (Class 0 to Class 10)”."""
    yield Check("data", rounds(num_classes(sources, "organcmnist"), printed("11", "C075")))


@claim("C101", "What label 0 means; the maps themselves are not judged.")
def breast_label_zero_is_normal(sources: Sources) -> Parts:
    """“Class 0 (normal) shows distributed attention suggesting holistic assessment”."""
    yield Check("data", class_named(sources, "breastmnist", 0, "normal"))


@claim("C102")
def breast_label_one_is_benign_or_malignant(sources: Sources) -> Parts:
    """“Class 1, encompassing both benign and malignant pathologies”."""
    yield Check("data", class_named(sources, "breastmnist", 1, "benign", "malignant"))


@claim(
    "C169",
    "Moderate: the largest class has at most nine times as many images as the smallest, beyond which the KEEL "
    "repository (Alcalá-Fdez et al. 2011) speaks of high imbalance; on each of the six sets. Where no card is "
    "measured, the largest class's share of test, which a published constant predictor tells, gives the least that it "
    "can be.",
)
def imbalance_is_moderate(sources: Sources) -> Parts:
    """“The MedMNIST benchmark datasets used in our evaluation exhibit moderate class imbalance”."""
    moderate = bound(9)
    for dataset in PAPER_DATASETS:
        measured = at_most(imbalance(sources, dataset), moderate)
        if measured.verdict == UNDECIDED and (CONSTANT, dataset) in {(s.name, s.dataset) for s in sources.scores}:
            least = at_most(least_imbalance(sources, dataset, CONSTANT), moderate)
            measured = least if least.verdict == FAILS else measured
        yield Check("data", replace(measured, found=f"{dataset_name(dataset)} {measured.found}"))


@claim("C170", "Extreme imbalance, a class that makes up less than 1 % of its data set, is in none of the six sets.")
def no_class_below_one_percent(sources: Sources) -> Parts:
    """“positive cases may constitute <1% of samples, was not extensively evaluated in this study”."""
    for dataset in PAPER_DATASETS:
        share = at_least(smallest_share(sources, dataset), printed("1", "C170"))
        yield Check("data", replace(share, found=f"{dataset_name(dataset)} {share.found}"))


@claim("C171", "As C001. “Multimodal” is read as several sets of one modality each, and not judged.")
def six_sets_in_the_conclusions(sources: Sources) -> Parts:
    """“Extensive evaluation across six multimodal benchmark datasets”."""
    yield Check("data", rounds(sets_stated(sources), printed("six", "C171")))
