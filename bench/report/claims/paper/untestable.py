"""The claims that no run, count or published number can decide, by the reason why."""

from __future__ import annotations

DESIGN = (
    "describes the design or the training itself; the authors' code and logs are not at hand, and the "
    "registered model follows this text"
)
LOST = "the formula, table or figure that it rests on is not in the text at hand"
CAUSE = (
    "an explanation of a result; neither the paper nor the suite has an experiment that separates this cause "
    "from others"
)
WORTH = "a judgement of worth, fitness or clinical use without a measure or a bound"
METHOD = "advice on methods, not a statement about the model or its data"
DONE = (
    "says what the authors did or used, which leaves no trace in records; the text reports an ablation of "
    "optimiser and CutMix (C109, C112), the suite registers variants without each module and pins its files by"
    " MD5"
)
DEFINITION = (
    "says how self-attention is defined, whose cost grows with the square of the number of tokens; no model "
    "here is built to measure it"
)
TEXT = "is about the order of the paper's own headings"

IDS = {
    DESIGN: ("C023", "C025", "C026", "C027", "C029", "C031", "C032", "C038", "C039", "C051", "C104", "C110", "C111"),
    LOST: ("C028", "C033", "C144"),
    CAUSE: ("C073", "C074", "C092", "C093"),
    WORTH: ("C020", "C040", "C082", "C106", "C108", "C146", "C147", "C153", "C167", "C168"),
    METHOD: ("C057",),
    DONE: ("C054", "C100"),
    DEFINITION: ("C021",),
    TEXT: ("C055",),
}
REASONS = {name: reason for reason, names in IDS.items() for name in names}
