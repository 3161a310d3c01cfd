"""What models, data sets and the like are called where a person reads; code, commands and CSV keep registered names."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["MODELS", "dataset_name", "dataset_names", "model_name", "model_names", "name_in_sentence", "shown_name"]

MODELS = {
    "floor/prior": "Majority class",
    "floor/knn1": "Nearest neighbour",
    "sklearn/logistic": "Logistic regression",
    "sklearn/hist_gradient_boosting": "Gradient boosting",
    "medspectralnet": "MedSpectralNet",
    "medspectralnet_8m5": "MedSpectralNet-8.5M",
    "medspectralnet_no_flow1": "MedSpectralNet without the first SpectralFlow",
    "medspectralnet_no_flow2": "MedSpectralNet without the second SpectralFlow",
    "medspectralnet_no_gate": "MedSpectralNet without ContextGate",
    "convnext_t": "ConvNeXt-T",
    "edgenext_s": "EdgeNeXt-S",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientformerv2_s0": "EfficientFormerV2-S0",
    "fastvit_t8": "FastViT-T8",
    "mambaout_t": "MambaOut-T",
    "medmamba_t": "MedMamba-T",
    "medmamba_s": "MedMamba-S",
    "medmamba_s_paper": "MedMamba-S at the paper's depth",
    "medmamba_b": "MedMamba-B",
    "medmamba_b_paper": "MedMamba-B at the paper's depth",
    "medvit_t": "MedViT-T",
    "medvit_s": "MedViT-S",
    "medvit_l": "MedViT-L",
    "mobilenetv4_s": "MobileNetV4-S",
    "mobilevitv2_100": "MobileViTv2-1.0",
    "nest_t": "NesT-T",
    "resnet18": "ResNet-18",
    "resnet18_28": "ResNet-18 (28 px)",
    "resnet50": "ResNet-50",
    "resnet50_28": "ResNet-50 (28 px)",
    "swin_t": "Swin-T",
    "vmamba_t": "VMamba-T",
}
IN_SENTENCES = {  # what is no proper name
    "floor/prior": "the majority class",
    "floor/knn1": "the nearest neighbour",
    "sklearn/logistic": "logistic regression",
    "sklearn/hist_gradient_boosting": "gradient boosting",
}
DATASETS = {
    "bloodmnist": "BloodMNIST",
    "breastmnist": "BreastMNIST",
    "dermamnist": "DermaMNIST",
    "pneumoniamnist": "PneumoniaMNIST",
    "organcmnist": "OrganCMNIST",
    "organsmnist": "OrganSMNIST",
}


def model_name(model: str) -> str:
    """`ResNet-18` for `resnet18`; a model that is not the suite's is called as it was registered."""
    return MODELS.get(model, model)


def name_in_sentence(model: str) -> str:
    """`ResNet-18`, but `the majority class`."""
    return IN_SENTENCES.get(model) or model_name(model)


def dataset_name(dataset: str) -> str:
    """`BreastMNIST` for `breastmnist`; any other set by its own name."""
    return DATASETS.get(dataset, dataset)


def model_names(models: Iterable[str]) -> str:
    """`ResNet-18, Swin-T`."""
    return ", ".join(map(model_name, models))


def dataset_names(datasets: Iterable[str]) -> str:
    """`BloodMNIST, BreastMNIST`."""
    return ", ".join(map(dataset_name, datasets))


def shown_name(text: str) -> str:
    """What a table's cell that is a registered name shows; any other cell stays as it is."""
    return MODELS.get(text) or DATASETS.get(text, text)
