"""What the paper says of numbers of parameters, its own model's and others'."""

from __future__ import annotations

from bench.report.analysis_plan import OURS
from bench.report.claims.checks import above, at_least, rounds, within
from bench.report.claims.registry import claim
from bench.report.claims.sources import Sources
from bench.report.claims.terms import fewer_macs, fewer_params, params, published_params
from bench.report.claims.values import Quantity, bound, fewer, printed
from bench.report.claims.verdict import Beside, Check, Parts, every, sufficient


@claim(
    "C005",
    "The text's design with the whole ResNet-18 trunk (C023, C024), as registered; what the text leaves open is "
    "listed in the model's file.",
)
def our_size(sources: Sources) -> Parts:
    """“with only 8.5 million parameters”."""
    yield Check("costs", rounds(params(sources, OURS), printed("8.5", "C005")))
    shorter = "the variant with one basic block less, registered for this size"
    yield Beside(shorter, params(sources, "medspectralnet_8m5"))
    yield Beside("ResNet-18 alone, which section 3.1 names as the trunk, with its head", params(sources, "resnet18"))


@claim("C006", "By the paper's own two numbers; “approximately 60 %” is met by anything from 55 to 65 %.")
def sixty_percent_fewer_than_medmamba(sources: Sources) -> Parts:
    """“representing approximately 60% fewer parameters than MedMamba-T”."""
    saved = fewer(printed("8.5", "C005"), printed("14.5", "C007"))
    yield Check("arithmetic", rounds(saved, printed("60", "C006"), digits=-1))
    yield Beside("by counted parameters", fewer_params(sources, "medmamba_t"))
    yield Beside("against the paper's VMamba-T", fewer(printed("8.5", "C005"), printed("22.1", "C156")))


@claim("C007")
def medmamba_t_size(sources: Sources) -> Parts:
    """“MedMamba-T, which requires 14.5 million parameters”."""
    yield Check("costs", rounds(params(sources, "medmamba_t"), printed("14.5", "C007")))
    yield Beside("as published", published_params(sources, "medmamba_t"))


def _two_sizes(sources: Sources, ours: Quantity, theirs: Quantity) -> Parts:
    yield Check("costs", rounds(params(sources, OURS), ours))
    yield Check("costs", rounds(params(sources, "medmamba_t"), theirs))
    yield Beside("the variant with one basic block less", params(sources, "medspectralnet_8m5"))


@claim("C107", "The two sizes; parallelism is C018.")
def sizes_in_the_discussion_of_grad_cam(sources: Sources) -> Parts:
    """“requiring substantially fewer parameters (8.5M vs. 14.5M for MedMamba-T)”."""
    return _two_sizes(sources, printed("8.5", "C107"), printed("14.5", "C107"))


@claim("C124", "MedSpectralNet has at least 10 % fewer parameters and MACs (aten) than either.")
def smaller_than_medmamba_s_and_b(sources: Sources) -> Parts:
    """“they require significantly more computational resources with substantially larger parameter counts”."""
    for model in ("medmamba_s", "medmamba_b"):
        yield Check("costs", at_least(fewer_params(sources, model), bound(10, "%")))
    for model in ("medmamba_s", "medmamba_b"):
        yield Check("costs", at_least(fewer_macs(sources, model, "aten"), bound(10, "%")))


@claim(
    "C127",
    "Against MedViT as its released code builds it: `medvit_t` is what the release calls MedViT_small, `medvit_s` its "
    "MedViT_base; at least 10 % fewer than either. The MedViT-T of the MedViT paper's own table, whose size no source "
    "at hand prints, is another network: it stands beside as recalled, and would turn this verdict if it were meant.",
)
def smaller_than_medvit(sources: Sources) -> Parts:
    """“but with significantly fewer parameters. The performance gap narrows considerably”."""
    for model in ("medvit_t", "medvit_s"):
        yield Check("costs", at_least(fewer_params(sources, model), bound(10, "%")))
    tiny, small = (fewer(params(sources, OURS), published_params(sources, name)) for name in ("medvit_t", "medvit_s"))
    yield Beside("against the MedViT-T of that table, unverified", tiny)
    yield Beside("against its MedViT-S, unverified", small)


@claim("C154", "The two sizes; the accuracies are C119.")
def sizes_beside_medmamba_t(sources: Sources) -> Parts:
    """“With only 8.5M parameters, our model achieves performance comparable to MedMamba-T (14.5M parameters)”."""
    return _two_sizes(sources, printed("8.5", "C154"), printed("14.5", "C154"))


@claim("C156")
def vmamba_t_size(sources: Sources) -> Parts:
    """“VMamba-T (22.1M)”."""
    early = rounds(printed("22.1", "C156"), published_params(sources, "VMamba-T (early release, 2024-02)"))
    yield Check("published", early)
    yield Beside("the current release", published_params(sources, "VMamba-T (current release s1l8)"))
    yield Beside("the current release as registered, counted", params(sources, "vmamba_t"))


@claim("C157")
def swin_t_size(sources: Sources) -> Parts:
    """“Swin-T (27.5M)”."""
    yield Check("costs", rounds(params(sources, "swin_t"), printed("27.5", "C157")))


@claim("C158", "Against each of the three models whose sizes the passage gives, by its own numbers.")
def forty_to_sixty_percent_smaller(sources: Sources) -> Parts:
    """“This 40–60% reduction in model size directly translates to practical deployment advantages”."""
    low, high = printed("40", "C158"), printed("60", "C158")
    for theirs in (printed("14.5", "C154"), printed("22.1", "C155"), printed("27.5", "C155")):
        yield Check("arithmetic", within(fewer(printed("8.5", "C154"), theirs), low, high))
    yield Beside("by counted parameters, MedMamba-T", fewer_params(sources, "medmamba_t"))
    yield Beside("by counted parameters, Swin-T", fewer_params(sources, "swin_t"))


@claim("C159", "Every model of the figure has more parameters than the stated 8.5 M, whichever MobileViT it shows.")
def smallest_of_figure_14(sources: Sources) -> Parts:
    """“several lightweight models, including MedMamba, V-Mamba, Swin Transformer, MobileViT, and Nest-Tiny”."""
    sizes = [params(sources, model) for model in ("medmamba_t", "swin_t", "nest_t")]
    sizes.append(published_params(sources, "VMamba-T (as in the paper, early release)"))
    sizes.append(published_params(sources, "MobileViTv2-0.5 (6 cls)"))
    why = "which MobileViT Fig 14 shows is not in the text at hand: some have fewer than 8.5 M parameters, some more"
    yield Check("costs", sufficient(every(*(above(size, printed("8.5", "C154")) for size in sizes)), why))
    yield Beside("the largest MobileViT at hand", published_params(sources, "MobileViTv2-2.0 (6 cls)"))


@claim("C172", "The two sizes; the accuracies are C119.")
def sizes_in_the_conclusions(sources: Sources) -> Parts:
    """“with only 8.5M parameters, MedSpectralNet achieves comparable or superior performance”."""
    return _two_sizes(sources, printed("8.5", "C172"), printed("14.5", "C172"))


@claim(
    "C173",
    "Against MedMamba-T, which the sentence before (C172) names and from which this one concludes; no other model "
    "is named.",
)
def sixty_percent_fewer_than_large_models(sources: Sources) -> Parts:
    """“equivalent results while using 60% fewer parameters than large state-of-the-art models”."""
    yield Check("arithmetic", rounds(fewer(printed("8.5", "C172"), printed("14.5", "C172")), printed("60", "C173")))
    yield Beside("against the paper's VMamba-T", fewer(printed("8.5", "C172"), printed("22.1", "C155")))
    yield Beside("against the paper's Swin-T", fewer(printed("8.5", "C172"), printed("27.5", "C155")))
    yield Beside("by counted parameters, MedMamba-T", fewer_params(sources, "medmamba_t"))
