"""What the paper says of the network's design: shapes, pathways, and how its cost grows with the image."""

from __future__ import annotations

from bench.report.analysis_plan import OURS
from bench.report.claims.checks import at_least, at_most, equals, rounds, whole
from bench.report.claims.registry import claim
from bench.report.claims.sources import Sources
from bench.report.claims.terms import attention_ratio, head_width, params, scaling, vit_scaling
from bench.report.claims.values import bound, listed, printed
from bench.report.claims.verdict import Beside, Check, Parts, either, every, possible, sufficient


@claim(
    "C010",
    "Linear: four times the pixels cost at most four times the MACs of a SpectralFlow (the model less the one "
    "without it). How well it stands in for self-attention is not judged: no attention control exists.",
)
def spectral_flow_is_linear(sources: Sources) -> Parts:
    """“approximates self-attention with linear complexity to efficiently extract multi-frequency features”."""
    yield Check("costs", at_most(scaling(sources, OURS, "medspectralnet_no_flow1"), bound(4)))


@claim(
    "C013",
    "N is the number of tokens, which grows with HW: four times the pixels cost sixteen times the MACs of "
    "self-attention's scores and weighted sums, by the closed form of a ViT. What all of a ViT costs stands beside.",
)
def attention_is_quadratic(sources: Sources) -> Parts:
    """“their quadratic computational complexity, O(NC(HW))”."""
    yield Check("costs", equals(vit_scaling(attention=True), bound(16)))
    yield Beside("all of ViT-B/16", vit_scaling(attention=False))


@claim("C014", "Four times the pixels cost at most four times the MACs of MedMamba-T.")
def mamba_is_linear(sources: Sources) -> Parts:
    """“provides a linear computational complexity of O(HW) while successfully capturing long-range dependencies”."""
    yield Check("costs", at_most(scaling(sources, "medmamba_t"), bound(4)))


@claim("C015", "As C010: the order alone is judged.")
def spectral_flow_is_linear_in_the_introduction(sources: Sources) -> Parts:
    """“achieves self-attention-like performance with linear complexity O(HW)”."""
    yield Check("costs", at_most(scaling(sources, OURS, "medspectralnet_no_flow1"), bound(4)))


@claim(
    "C024",
    "The width of ResNet-18's last map: one class more in its linear head costs C weights and one bias. H / 32 and "
    "W / 32 are not judged; whether such a trunk fits into 8.5 M is C005.",
)
def trunk_has_512_channels(sources: Sources) -> Parts:
    """“where C = 512, H′ = H/32, and W′ = W/32”."""
    yield Check("costs", rounds(head_width(sources, "resnet18"), printed("512", "C024")))
    yield Beside("parameters of that trunk with an 8-class head", params(sources, "resnet18"))


@claim("C030", "It is enough that patches of both sizes tile that map.")
def patches_tile_the_map(sources: Sources) -> Parts:
    """“where k is typically set to 3 or 5”."""
    side = bound(224) / printed("32", "C024")
    why = (
        "the same sentence says that the patches do not overlap, and k × k patches of neither size tile the map of a "
        "224 px image (side 224 / 32); the text mentions neither padding nor its resolution, and the registered model "
        "pads"
    )
    tiles = every(whole(side / printed("3", "C030")), whole(side / printed("5", "C030")))
    yield Check("arithmetic", sufficient(tiles, why))


@claim(
    "C034",
    "Self-attention with as many parameters as the first SpectralFlow, on the 7 × 7 map of a 224 px image, in "
    "multiples of the SpectralFlow's MACs; four times as many, or four times more. The text gives no derivation and"
    " leaves the SpectralFlow's reductions open: it is judged as registered, and other reductions give other "
    "ratios.",
)
def attention_costs_four_times_as_much(sources: Sources) -> Parts:
    """“mechanism with the same number of parameters incurs approximately four times more FLOPs”."""
    ratio = attention_ratio(sources, OURS, "medspectralnet_no_flow1", 49, 512)
    as_much, more = rounds(ratio, printed("four", "C034")), rounds(ratio - 1, printed("four", "C034"))
    yield Check("costs", either(as_much, more))


@claim("C035", "As C010.")
def spectral_flow_is_linear_in_the_methods(sources: Sources) -> Parts:
    """“while keeping the module’s complexity proportional to HW”."""
    yield Check("costs", at_most(scaling(sources, OURS, "medspectralnet_no_flow1"), bound(4)))


@claim("C036", "C / 3 is a whole number of channels for the stated C; no rounding is mentioned.")
def gate_width_is_whole(sources: Sources) -> Parts:
    """“a gating pathway applies a pointwise convolution to reduce the channel dimensionality to C/3”."""
    yield Check("arithmetic", whole(printed("512", "C024") / printed("3", "C036")))


@claim(
    "C037",
    "An element-wise product needs as many channels in the gate (C036) as in the intermediate; no repetition is "
    "mentioned.",
)
def gate_fits_the_intermediate(sources: Sources) -> Parts:
    """“to form a 2C/3-channel intermediate, which is multiplicatively modulated by the gating tensor g”."""
    intermediate = printed("2", "C037") * printed("512", "C024") / printed("3", "C037")
    gate = printed("512", "C024") / printed("3", "C036")
    yield Check("arithmetic", equals(intermediate, gate))


@claim("C103", "The pathways that the sentence lists.")
def three_pathways(sources: Sources) -> Parts:
    """“implementing a three-pathway design: spatial processing”."""
    pathways = listed("C103", "spatial processing", "gating mechanism", "identity preservation")
    yield Check("arithmetic", rounds(pathways, printed("three", "C103")))


@claim(
    "C105",
    "Counted row by row, sample 6 stands in row 2, column 2 of a figure with this many columns, which must be a whole "
    "number and not less than the column.",
)
def sample_six_in_row_two(sources: Sources) -> Parts:
    """“A critical observation emerges in sample 6 (row 2, column 2) labeled as Class 0”."""
    columns = (printed("6", "C105") - printed("2", "C105")) / (printed("2", "C105") - 1)
    why = "the figure, whose number of columns this gives, is not in the text at hand"
    fits = every(whole(columns), at_least(columns, printed("2", "C105")))
    yield Check("arithmetic", possible(fits, why))


@claim(
    "C163",
    "SpectralFlow's order, as C010. That of self-attention is its definition; how significant the advance is on a 7"
    " × 7 map is not judged.",
)
def spectral_flow_is_linear_against_attention(sources: Sources) -> Parts:
    """“linear O(HW) computational complexity of our SpectralFlow module represents a significant advancement”."""
    yield Check("costs", at_most(scaling(sources, OURS, "medspectralnet_no_flow1"), bound(4)))
