"""What the paper says of computation: multiply-accumulates, its own model's and others'."""

from __future__ import annotations

from bench.report.analysis_plan import OURS
from bench.report.claims.accuracies import not_behind_anywhere, state_of_the_art
from bench.report.claims.checks import at_least, below, rounds
from bench.report.claims.registry import claim
from bench.report.claims.sources import Sources
from bench.report.claims.terms import coverage, fewer_macs, fewer_params, gmacs, published_gmacs
from bench.report.claims.values import bound, fewer, printed
from bench.report.claims.verdict import Beside, Check, Parts


@claim(
    "C009",
    "State of the art: on at least one set the accuracy is higher than every published one at hand, by the 95 % "
    "interval over the test images, corrected for the choice. Reduced cost: at least 10 % fewer MACs than MedMamba-T "
    "by aten, which counts the scan and the products that thop, the paper's counter, leaves out.",
)
def state_of_the_art_at_reduced_cost(sources: Sources) -> Parts:
    """“demonstrating state-of-the-art accuracy with substantially reduced computational cost”."""
    yield Check("costs", at_least(fewer_macs(sources, "medmamba_t", "aten"), bound(10, "%")))
    yield Check("published", state_of_the_art(sources))
    yield Beside("MACs by thop", fewer_macs(sources, "medmamba_t"))
    in_print = fewer(printed("2.00", "C148"), published_gmacs(sources, "medmamba_t"))
    yield Beside("by the paper's own and the published number", in_print)


@claim(
    "C017",
    "Comparable: not lower by more than the analysis plan's margin, by the 90 % interval over the test images. "
    "Significantly fewer parameters: at least 10 %. Reduced resources: fewer MACs by aten.",
)
def cheaper_than_medmamba_t(sources: Sources) -> Parts:
    """“comparable performance to MedMamba-T while utilizing significantly fewer parameters”."""
    yield Check("costs", at_least(fewer_params(sources, "medmamba_t"), bound(10, "%")))
    yield Check("costs", below(gmacs(sources, OURS, "aten"), gmacs(sources, "medmamba_t", "aten")))
    yield Check("published", not_behind_anywhere(sources, "MedMamba-T (224 px)"))
    yield Beside("by the paper's own parameters", fewer(printed("8.5", "C005"), printed("14.5", "C007")))
    yield Beside("MACs by thop", fewer_macs(sources, "medmamba_t"))


@claim(
    "C022",
    "At least 10 % fewer MACs than MedMamba-T, the paper's main comparison, by aten, which counts the scan and the "
    "products that thop, the paper's counter, leaves out.",
)
def substantially_reduced_cost(sources: Sources) -> Parts:
    """“ensuring competitive diagnostic accuracy while substantially reducing computational cost”."""
    yield Check("costs", at_least(fewer_macs(sources, "medmamba_t", "aten"), bound(10, "%")))
    yield Beside("by thop", fewer_macs(sources, "medmamba_t"))
    in_print = fewer(printed("2.00", "C148"), published_gmacs(sources, "medmamba_t"))
    yield Beside("by the paper's own and the published number", in_print)
    yield Beside("against the trunk that it builds on, by aten", fewer_macs(sources, "resnet18", "aten"))


@claim(
    "C058",
    "Whether the printed GFLOPs are counts of arithmetic operations, a multiply and an add being two: twice "
    "ConvNeXt-T's MACs against its printed number.",
)
def flops_count_operations(sources: Sources) -> Parts:
    """“computational complexity of a neural network by counting the total number of arithmetic operations”."""
    yield Check("costs", rounds(2 * gmacs(sources, "convnext_t"), printed("4.47", "C151")))
    yield Beside("once the MACs", gmacs(sources, "convnext_t"))
    yield Beside("share of MedSpectralNet's operators that thop counts at all", coverage(sources, OURS, "thop"))


@claim(
    "C060",
    "The two printed baselines are what thop counts on timm's models at 224 px (the printed resolution was lost); "
    "1,000 classes instead of 8 add less than 0.001 GMACs, which takes neither to its printed digits.",
)
def flops_measured_with_thop(sources: Sources) -> Parts:
    """“FLOPs were measured using the thop profiling library with standardized input resolution of pixels”."""
    yield Check("costs", rounds(gmacs(sources, "convnext_t"), printed("4.47", "C151")))
    yield Check("costs", rounds(gmacs(sources, "swin_t"), printed("4.50", "C152")))


@claim(
    "C148",
    "The text's design as registered, by thop at 224 px; a “FLOP” is a multiply-accumulate here (C058). It must round "
    "to the printed digits; by how much it misses them stands beside.",
)
def our_macs(sources: Sources) -> Parts:
    """“MedSpectralNet achieves 2.00 GFLOPs”."""
    yield Check("costs", rounds(gmacs(sources, OURS), printed("2.00", "C148")))
    yield Beside("counted less than printed", fewer(gmacs(sources, OURS), printed("2.00", "C148")))
    yield Beside("by ptflops", gmacs(sources, OURS, "ptflops"))
    yield Beside("by aten", gmacs(sources, OURS, "aten"))
    yield Beside("the variant of 8.5 M, by thop", gmacs(sources, "medspectralnet_8m5"))


@claim("C149")
def fewer_macs_than_convnext_t(sources: Sources) -> Parts:
    """“MedSpectralNet requires 55.6% fewer FLOPs than ConvNeXt-T”."""
    yield Check("arithmetic", rounds(fewer(printed("2.00", "C148"), printed("4.47", "C151")), printed("55.6", "C149")))
    yield Beside("by counted MACs (thop)", fewer_macs(sources, "convnext_t"))


@claim("C150")
def fewer_macs_than_swin_t(sources: Sources) -> Parts:
    """“55.1% fewer than Swin-T”."""
    yield Check("arithmetic", rounds(fewer(printed("2.00", "C148"), printed("4.50", "C152")), printed("55.1", "C150")))
    yield Beside("by counted MACs (thop)", fewer_macs(sources, "swin_t"))


@claim("C151", "What the literature prints for the name; whether it was counted by thop is C060.")
def convnext_t_macs(sources: Sources) -> Parts:
    """“ConvNeXt-T (4.47 GFLOPs)”."""
    yield Check("published", rounds(published_gmacs(sources, "convnext_t"), printed("4.47", "C151")))
    yield Beside("counted by thop, 8 classes", gmacs(sources, "convnext_t"))
    yield Beside("counted by aten, 8 classes", gmacs(sources, "convnext_t", "aten"))


@claim("C152", "What timm prints for the name, as in C151; whether it was counted by thop is C060.")
def swin_t_macs(sources: Sources) -> Parts:
    """“Swin-T (4.50 GFLOPs)”."""
    yield Check("published", rounds(published_gmacs(sources, "Swin-T (1000 cls)"), printed("4.50", "C152")))
    yield Beside("quoted for the name by a survey, which gives one digit", published_gmacs(sources, "swin_t"))
    yield Beside("counted by thop, 8 classes", gmacs(sources, "swin_t"))
    yield Beside("counted by aten, 8 classes", gmacs(sources, "swin_t", "aten"))


@claim(
    "C162",
    "Fewer MACs than the models that section 4.7 compares it with, MedMamba-T by all three counters; by how much is"
    " C022, C149 and C150.",
)
def lower_complexity(sources: Sources) -> Parts:
    """“but also in lower computational complexity”."""
    for counter in ("thop", "ptflops", "aten"):
        yield Check("costs", below(gmacs(sources, OURS, counter), gmacs(sources, "medmamba_t", counter)))
    yield Check("costs", below(gmacs(sources, OURS), gmacs(sources, "swin_t")))
    yield Check("costs", below(gmacs(sources, OURS), gmacs(sources, "convnext_t")))
    in_print = fewer(printed("2.00", "C148"), published_gmacs(sources, "medmamba_t"))
    yield Beside("by the paper's own and the published number for MedMamba-T", in_print)
    yield Beside("its own trunk, ResNet-18", gmacs(sources, "resnet18"))


@claim("C165", "As C148, with one digit less: it must round to 2.0.")
def our_macs_to_one_digit(sources: Sources) -> Parts:
    """“MedSpectralNet maintains a computational budget of 2.0 GFLOPs”."""
    yield Check("costs", rounds(gmacs(sources, OURS), printed("2.0", "C165")))
    yield Beside("the variant of 8.5 M, by thop", gmacs(sources, "medspectralnet_8m5"))


@claim("C166")
def fewer_macs_than_resnet50(sources: Sources) -> Parts:
    """“significantly lower than the 4.0 + GFLOPs typically seen in ResNet-50”."""
    yield Check("costs", at_least(gmacs(sources, "resnet50"), printed("4.0", "C166")))
    yield Check("costs", at_least(fewer_macs(sources, "resnet50"), bound(10, "%")))
    yield Beside("against ResNet-18, its own trunk", fewer_macs(sources, "resnet18"))
