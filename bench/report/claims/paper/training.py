"""What the paper says of training: its recipe, judged on the suite's protocol, and its curves."""

from __future__ import annotations

from bench.report.claims.checks import above, at_least, at_most, below, near, recipe, rounds, within
from bench.report.claims.histories import share_of_fall, training_lead, training_loss
from bench.report.claims.registry import claim
from bench.report.claims.runs import cutmix_helps, margin
from bench.report.claims.sources import Sources
from bench.report.claims.values import bound, listed, numbers, printed, stated
from bench.report.claims.verdict import Beside, Check, Parts, every, possible, some

NO_TEST_CURVE = "the suite never scores test by epoch, for that would invite choosing by it"
NO_ACCURACY_CURVE = "the suite scores neither training images nor, by epoch, test"


@claim("C048")
def normalisation_mean(sources: Sources) -> Parts:
    """“mean values of [0.485, 0.456, 0.406]”."""
    yield Check("arithmetic", recipe("data.mean", *numbers("C048", "0.485", "0.456", "0.406")))


@claim("C049")
def normalisation_std(sources: Sources) -> Parts:
    """“standard deviation values of [0.229, 0.224, 0.225] for the RGB channels”."""
    yield Check("arithmetic", recipe("data.std", *numbers("C049", "0.229", "0.224", "0.225")))


@claim("C050")
def translation(sources: Sources) -> Parts:
    """“translation up to 10%”."""
    yield Check("arithmetic", recipe("augment.translation", printed("10", "C050"), percent=True))


@claim("C052")
def random_erasing(sources: Sources) -> Parts:
    """“we applied RandomErasing with a 50% probability”."""
    yield Check("arithmetic", recipe("augment.erasing_p", printed("50", "C052"), percent=True))


@claim("C053")
def cutmix_probability(sources: Sources) -> Parts:
    """“It was employed with a probability of 0.5 during training, where two images and their labels are mixed”."""
    yield Check("arithmetic", recipe("augment.cutmix_p", printed("0.5", "C053")))


@claim("C061")
def epochs_on_organ_c(sources: Sources) -> Parts:
    """“Fig 4 presents the training dynamics for OrganCMNIST across 200 epochs”."""
    yield Check("arithmetic", recipe("schedule.epochs", printed("200", "C061")))


@claim("C062", "Four fifths of the training loss's fall by epoch 50, 95 % by epoch 100 (chosen here).")
def loss_falls_early(sources: Sources) -> Parts:
    """“decrease rapidly within the first 50 epochs and stabilize around epoch 100”."""
    early = at_least(share_of_fall(sources, "organcmnist", 50), bound(80, "%"))
    stable = at_least(share_of_fall(sources, "organcmnist", 100), bound(95, "%"))
    yield Check("records", possible(every(early, stable), NO_TEST_CURVE))


@claim("C063", "The training loss after the last epoch.")
def final_loss_on_organ_c(sources: Sources) -> Parts:
    """“with training loss converging to approximately 0.5 and test loss to 0.35”."""
    final = rounds(training_loss(sources, "organcmnist"), printed("0.5", "C063"))
    yield Check("records", possible(final, NO_TEST_CURVE))


@claim(
    "C064",
    "Without over-fitting: after the last epoch the accuracy on un-augmented train images is not above that on val by "
    "more than the analysis plan's margin, by the 90 % interval over the images. The curves' own gap is of mixed "
    "training images and says nothing of it.",
)
def no_overfitting_on_organ_c(sources: Sources) -> Parts:
    """“The consistent gap between curves indicates effective regularization without overfitting”."""
    yield Check("records", at_most(training_lead(sources, "organcmnist", "val"), margin()))


@claim(
    "C067",
    "The test accuracy exceeds the training accuracy on un-augmented train images too, by the 95 % interval over the "
    "images, at the epoch that val chose; where it does not, the gap comes of augmented, mixed images.",
)
def test_accuracy_exceeds_training_accuracy(sources: Sources) -> Parts:
    """“The test accuracy exceeding training accuracy suggests strong generalization”."""
    yield Check("records", below(training_lead(sources, "organcmnist", "test"), bound(0)))


@claim("C065", "The curve's end, read as the accuracy of C113, lies above.")
def over_eighty_percent_by_epoch_50(sources: Sources) -> Parts:
    """“reaching over 80% for both training and test sets”."""
    yield Check("arithmetic", possible(at_least(stated("organcmnist"), printed("80", "C065")), NO_ACCURACY_CURVE))


@claim("C066", "The plateau and the accuracy of C113 lie within the analysis plan's margin of each other.")
def plateau_on_organ_c(sources: Sources) -> Parts:
    """“performance plateaus around 93% test accuracy and approximately 90% training accuracy”."""
    plateau = near(stated("organcmnist"), printed("93", "C066"), 100 * margin())
    yield Check("arithmetic", possible(plateau, NO_ACCURACY_CURVE))


@claim("C083")
def epochs_on_organ_s(sources: Sources) -> Parts:
    """“Fig 8 presents the training dynamics for OrganSMNIST across 200 epochs”."""
    yield Check("arithmetic", recipe("schedule.epochs", printed("200", "C083")))


@claim("C084", "The training loss after the last epoch.")
def final_loss_on_organ_s(sources: Sources) -> Parts:
    """“with training loss settling near 0.5 and test loss plateauing higher at approximately 0.8”."""
    final = rounds(training_loss(sources, "organsmnist"), printed("0.5", "C084"))
    yield Check("records", possible(final, NO_TEST_CURVE))


@claim("C085", "Both ends of what is reached by epoch 50 are no more than the plateau's of C087.")
def accuracy_by_epoch_50_on_organ_s(sources: Sources) -> Parts:
    """“accuracy curves show steep improvement to 75–80% by epoch 50”."""
    ends = (("75", "80"), ("80", "82"))
    no_more = every(*(at_most(printed(early, "C085"), printed(late, "C087")) for early, late in ends))
    yield Check("arithmetic", possible(no_more, NO_ACCURACY_CURVE))


@claim("C086", "Both ends of the training accuracy lie above the test plateau of C087, as the text says.")
def training_accuracy_on_organ_s(sources: Sources) -> Parts:
    """“a gradual upward trend to approximately 85–87% by epoch 200”."""
    higher = every(*(above(end, printed("82", "C087")) for end in numbers("C086", "85", "87")))
    yield Check("arithmetic", possible(higher, NO_ACCURACY_CURVE))


@claim("C087", "The accuracy of C117 lies in the plateau, give or take the analysis plan's margin.")
def plateau_on_organ_s(sources: Sources) -> Parts:
    """“while test accuracy plateaus around 80–82%”."""
    low, high, slack = printed("80", "C087"), printed("82", "C087"), 100 * margin()
    plateau = within(stated("organsmnist"), low - slack, high + slack)
    yield Check("arithmetic", possible(plateau, NO_ACCURACY_CURVE))
    yield Beside("the accuracy of C117 less the plateau's upper end", stated("organsmnist") - high)


@claim("C109", "The optimisers that the sentence lists; Table 2 is not in the text at hand.")
def three_optimizers(sources: Sources) -> Parts:
    """“We evaluated three different optimizers: Stochastic Gradient Descent (SGD), RMSprop, and Adam”."""
    yield Check("arithmetic", rounds(listed("C109", "SGD", "RMSprop", "Adam"), printed("three", "C109")))


@claim(
    "C112",
    "There is a gain: under at least one of the three optimisers CutMix raises the test accuracy, corrected for that "
    "choice. Judged under the "
    "suite's own protocols for Table 2 (96 px, 40 epochs, random weights), for the text states neither size nor "
    "epochs of its ablation. The paper's amounts stand in Table 2, which is not in the text at hand.",
)
def cutmix_gains(sources: Sources) -> Parts:
    """“we analyzed the performance gain attributed specifically to the CutMix augmentation strategy”."""
    optimizers = ("sgd", "rmsprop", "adam")
    yield Check("records", some(*(cutmix_helps(sources, name, len(optimizers)) for name in optimizers)))
