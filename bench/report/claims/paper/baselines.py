"""What the paper says of its accuracy beside other models'."""

from __future__ import annotations

from bench.report.analysis_plan import OURS
from bench.report.claims.accuracies import (
    ahead,
    ahead_everywhere,
    beside_each_other,
    gains_between,
    lead,
    lead_over,
    not_behind,
    not_behind_anywhere,
    registered,
    slack,
    subtraction,
)
from bench.report.claims.checks import above, at_least, at_most, below, rounds, within
from bench.report.claims.registry import claim
from bench.report.claims.runs import higher
from bench.report.claims.sources import Sources
from bench.report.claims.terms import published, scaling
from bench.report.claims.values import Quantity, bound, gain, printed, stated
from bench.report.claims.verdict import Beside, Check, Parts, either, possible, some

# Published models, as the table of published scores names them.
MEDMAMBA, MEDVIT, AUTO_SKLEARN = "MedMamba-T (224 px)", "MedViT-S (224 px)", "auto-sklearn (28 px)"
SUBTRACTED = "Percentage points: a subtraction of printed numbers, which says nothing of chance."
PRETRAINED = "ResNet-18, MedMNIST+ e2e pretrained (224 px)"


def _as_published(sources: Sources, name: str, dataset: str, target: Quantity) -> Parts:
    yield Check("published", rounds(published(sources, name, dataset), target))


def _gains(sources: Sources, name: str, dataset: str, target: Quantity) -> Parts:
    yield Check("published", rounds(subtraction(sources, name, dataset), target))


@claim(
    "C004",
    "The range of the printed differences, as subtractions: it is enough that one of three readings holds on every "
    "set with a published number, relative gains over MedViT-S (a transformer), relative gains over MedMamba-T (a "
    "state-space model), points over MedMamba-T. Whether such gains would come again is C119.",
)
def gains_over_larger_transformers(sources: Sources) -> Parts:
    """“showing 1–4.3% relative accuracy gains when compared to larger transformer-based models”."""
    low, high = printed("1", "C004"), printed("4.3", "C004")
    over_medvit = gains_between(sources, MEDVIT, low, high, relative=True)
    over_medmamba = gains_between(sources, MEDMAMBA, low, high, relative=True)
    in_points = gains_between(sources, MEDMAMBA, low, high, relative=False)
    yield Check("published", either(over_medvit, over_medmamba, in_points))


@claim(
    "C119",
    "Against the accuracies of MedMamba's README, by the 95 % interval of each difference over the test images.",
)
def above_medmamba_t_on_every_set(sources: Sources) -> Parts:
    """“MedSpectralNet consistently outperforms the MedMamba-T baseline across all six datasets”."""
    yield Check("published", ahead_everywhere(sources, MEDMAMBA))


@claim("C120", SUBTRACTED)
def pneumonia_over_medmamba_t(sources: Sources) -> Parts:
    """“with particularly notable improvements on PneumoniaMNIST, achieving a 4.3% improvement”."""
    return _gains(sources, MEDMAMBA, "pneumoniamnist", printed("4.3", "C120"))


@claim("C121", SUBTRACTED)
def organ_c_over_medmamba_t(sources: Sources) -> Parts:
    """“OrganCMNIST with 1.0% gain”."""
    return _gains(sources, MEDMAMBA, "organcmnist", printed("1.0", "C121"))


@claim("C122", SUBTRACTED)
def organ_s_over_medmamba_t(sources: Sources) -> Parts:
    """“OrganSMNIST with 1.2% enhancement”."""
    return _gains(sources, MEDMAMBA, "organsmnist", printed("1.2", "C122"))


@claim(
    "C123",
    "“Some”: each of the two is more accurate on at least one set with a published number, by the 95 % interval over "
    "the test images, corrected for the choice; the numbers are a transcription by others.",
)
def below_larger_medmambas_somewhere(sources: Sources) -> Parts:
    """“While our model underperforms compared to MedMamba-S and MedMamba-B on some datasets”."""
    for name in ("MedMamba-S (224 px)", "MedMamba-B (224 px)"):
        sets = beside_each_other(sources, name)
        behind = [below(lead(sources, name, dataset), bound(0, "points"), len(sets)) for dataset in sets]
        yield Check("published", some(*behind))


@claim("C125", "What the architecture adds is its difference to its own trunk under one protocol, on every set.")
def the_architecture_adds_on_every_set(sources: Sources) -> Parts:
    """“architectural advantages are not dataset-specific but represent fundamental improvements”."""
    yield Check("records", higher(sources, "resnet18"))


@claim(
    "C126",
    "Closely matching: not lower by more than the analysis plan's margin, by the 90 % interval over the test images. "
    "For MedViT-T's 94.9 % no source but the paper is at hand.",
)
def matches_medvit_on_pneumonia(sources: Sources) -> Parts:
    """“our model achieves 94.2% accuracy, closely matching MedViT-S at 96.1% and MedViT-T at 94.9%”."""
    yield from _as_published(sources, MEDVIT, "pneumoniamnist", printed("96.1", "C126"))
    yield Check("published", not_behind(sources, MEDVIT, "pneumoniamnist"))
    tiny = lead_over(sources, printed("94.9", "C126"), "pneumoniamnist", "medvit_t")
    yield Check("published", at_least(tiny, slack()))


@claim(
    "C128",
    "On every other set with a published MedViT-S accuracy MedSpectralNet is less far behind it than on "
    "PneumoniaMNIST, or ahead, by the 95 % interval of the difference over both sets' test images.",
)
def gap_to_medvit_narrows_elsewhere(sources: Sources) -> Parts:
    """“The performance gap narrows considerably on other datasets”."""
    here = lead(sources, MEDVIT, "pneumoniamnist")
    for dataset in beside_each_other(sources, MEDVIT):
        if dataset != "pneumoniamnist":
            yield Check("published", above(lead(sources, MEDVIT, dataset), here))


@claim(
    "C129",
    "Comparable: not lower than the lower of the two by more than the analysis plan's margin, by the 90 % interval "
    "over the test images.",
)
def comparable_to_medvit_on_breast(sources: Sources) -> Parts:
    """“comparable or superior results on BreastMNIST at 86.5% versus MedViT variants achieving 89.6% to 89.7%”."""
    yield from _as_published(sources, MEDVIT, "breastmnist", printed("89.7", "C129"))
    lower = lead_over(sources, printed("89.6", "C129"), "breastmnist", registered(sources, MEDVIT))
    yield Check("published", at_least(lower, slack()))


@claim(
    "C130",
    "MedViT-S lies in the quoted range, and 98.0 % above it, by the 95 % interval over the test images; the other "
    "variants have no source but the paper.",
)
def above_medvit_on_blood(sources: Sources) -> Parts:
    """“BloodMNIST at 98.0% versus MedViT variants achieving 95.0% to 95.4%”."""
    low, high = printed("95.0", "C130"), printed("95.4", "C130")
    yield Check("published", within(published(sources, MEDVIT, "bloodmnist"), low, high))
    over = lead_over(sources, high, "bloodmnist", registered(sources, MEDVIT))
    yield Check("published", above(over, bound(0, "points")))


@claim(
    "C131",
    "Against the ResNets of MedMNIST v2, trained from scratch, which the next sentence quotes, by the 95 % interval of "
    "each difference over the test images; where no source at hand holds a number, nothing is compared.",
)
def above_resnets_on_every_set(sources: Sources) -> Parts:
    """“MedSpectralNet demonstrates comparatively superior performance across all datasets”."""
    for name in ("ResNet-18 (28 px)", "ResNet-18 (224 px)", "ResNet-50 (28 px)", "ResNet-50 (224 px)"):
        yield Check("published", ahead_everywhere(sources, name))
    pretrained = "BloodMNIST against ResNet-18 from ImageNet weights (MedMNIST+)"
    yield Beside(pretrained, subtraction(sources, PRETRAINED, "bloodmnist"))
    yield Beside("BreastMNIST against the same", subtraction(sources, PRETRAINED, "breastmnist"))
    yield Beside("DermaMNIST against the same", subtraction(sources, PRETRAINED, "dermamnist"))


@claim("C132")
def resnet18_at_28_px(sources: Sources) -> Parts:
    """“ResNet18’s performance of 85.4%”."""
    return _as_published(sources, "ResNet-18 (28 px)", "pneumoniamnist", printed("85.4", "C132"))


@claim("C133")
def resnet18_at_224_px(sources: Sources) -> Parts:
    """“86.4% on 224”."""
    return _as_published(sources, "ResNet-18 (224 px)", "pneumoniamnist", printed("86.4", "C133"))


@claim("C134")
def resnet50_at_28_px(sources: Sources) -> Parts:
    """“as well as ResNet50’s results of 85.4% on 28”."""
    return _as_published(sources, "ResNet-50 (28 px)", "pneumoniamnist", printed("85.4", "C134"))


@claim("C135")
def resnet50_at_224_px(sources: Sources) -> Parts:
    """“88.4% on 224”."""
    return _as_published(sources, "ResNet-50 (224 px)", "pneumoniamnist", printed("88.4", "C135"))


@claim("C136", SUBTRACTED)
def pneumonia_over_resnets(sources: Sources) -> Parts:
    """“This represents substantial improvements of 8.8%, 7.8%, 8.8%, and 5.8%, respectively”."""
    ours = stated("pneumoniamnist")
    yield Check("arithmetic", rounds(gain(ours, printed("85.4", "C132")), printed("8.8", "C136")))
    yield Check("arithmetic", rounds(gain(ours, printed("86.4", "C133")), printed("7.8", "C136")))
    yield Check("arithmetic", rounds(gain(ours, printed("85.4", "C134")), printed("8.8", "C136")))
    yield Check("arithmetic", rounds(gain(ours, printed("88.4", "C135")), printed("5.8", "C136")))


@claim("C137", SUBTRACTED)
def pneumonia_over_auto_sklearn(sources: Sources) -> Parts:
    """“achieving 8.7% improvement on PneumoniaMNIST”."""
    return _gains(sources, AUTO_SKLEARN, "pneumoniamnist", printed("8.7", "C137"))


@claim("C138", SUBTRACTED)
def breast_over_auto_sklearn(sources: Sources) -> Parts:
    """“6.2% on BreastMNIST”."""
    return _gains(sources, AUTO_SKLEARN, "breastmnist", printed("6.2", "C138"))


@claim("C139", SUBTRACTED)
def blood_over_auto_sklearn(sources: Sources) -> Parts:
    """“10.2% on BloodMNIST”."""
    return _gains(sources, AUTO_SKLEARN, "bloodmnist", printed("10.2", "C139"))


@claim("C140", SUBTRACTED)
def derma_over_auto_sklearn(sources: Sources) -> Parts:
    """“6.5% on DermaMNIST”."""
    return _gains(sources, AUTO_SKLEARN, "dermamnist", printed("6.5", "C140"))


@claim("C141", SUBTRACTED)
def organ_c_over_auto_sklearn(sources: Sources) -> Parts:
    """“10.8% on OrganCMNIST”."""
    return _gains(sources, AUTO_SKLEARN, "organcmnist", printed("10.8", "C141"))


@claim("C142", SUBTRACTED)
def organ_s_over_auto_sklearn(sources: Sources) -> Parts:
    """“15.9% on OrganSMNIST”."""
    return _gains(sources, AUTO_SKLEARN, "organsmnist", printed("15.9", "C142"))


@claim(
    "C143",
    "Competitive: not lower by more than the analysis plan's margin on any set, by the 90 % interval over the test "
    "images.",
)
def competitive_with_automl(sources: Sources) -> Parts:
    """“Against AutoKeras and Google AutoML, MedSpectralNet maintains competitive performance”."""
    yield Check("published", not_behind_anywhere(sources, "AutoKeras (28 px)"))
    yield Check("published", not_behind_anywhere(sources, "Google AutoML Vision (28 px)"))


@claim("C155", "Higher accuracy than Swin-T on every set.")
def above_vmamba_and_swin(sources: Sources) -> Parts:
    """“substantially outperforms other lightweight alternatives like VMamba-T (22.1M) and Swin-T (27.5M)”."""
    why = "of VMamba-T no accuracy on these sets is published, and the registered release is not the one of 22.1 M"
    yield Check("records", possible(higher(sources, "swin_t"), why))


@claim(
    "C174",
    "“Can”: above MedViT-S, the transformer with published accuracies on several of the sets, on at least one of "
    "them, by the 95 % interval over the test images, corrected for the choice; linear complexity as C010.",
)
def above_transformers_at_linear_cost(sources: Sources) -> Parts:
    """“exceed benchmark performances of transformer alternatives, but also achieve global modeling”."""
    yield Check("costs", at_most(scaling(sources, OURS, "medspectralnet_no_flow1"), bound(4)))
    sets = beside_each_other(sources, MEDVIT)
    yield Check("published", some(*(ahead(sources, MEDVIT, dataset, len(sets)) for dataset in sets)))
