# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tutorial: from a record to a number, and from a model to a record
#
# Run it from the repository's folder. It needs the full set-up (`./run_all.sh setup`), no data and less than a minute.

# %%
import os
import tempfile
from pathlib import Path

from sklearn.metrics import roc_auc_score

import bench
from bench import api
from bench.api import Launch, Selection

root = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "results" / "records").is_dir())
os.chdir(root)

# %% [markdown]
# ## 1. What is recorded
#
# One row a run: model, data set, protocol, seed, how it ended, and its scores on the test split.

# %%
frame = bench.load_results("results")
done = frame[(frame["protocol"] == "lite-96") & (frame["dataset"] == "breastmnist") & (frame["status"] == "done")]
done.groupby("model")[["test_auc", "test_acc"]].agg(["mean", "count"]).round(3)

# %% [markdown]
# ## 2. A score from its predictions
#
# A record keeps logits, one row an image. Scikit-learn gives the recorded AUC from them.

# %%
run = "resnet18__breastmnist__lite-96__s0"
scores = bench.load_predictions(run)
test = scores[scores["split"] == "test"]
by_hand = roc_auc_score(test["label"], test["logit_1"] - test["logit_0"])
recorded = frame.set_index("run_id").loc[run, "test_auc"]
print(f"by hand {by_hand:.6f}, recorded {recorded:.6f}")
assert abs(by_hand - recorded) < 1e-6

# %% [markdown]
# ## 3. Where a printed cell comes from

# %%
lines = api.explain(table="table3", model="resnet18", dataset="breastmnist", metric="auc", protocol="lite-96")
print(*lines, sep="\n")

# %% [markdown]
# ## 4. A model of your own
#
# A file with one decorated function. The contract is checked first, then two epochs on synthetic images: the scores
# mean nothing, the record is a real one.

# %%
NET = '''
from torch import nn

from models import register_model


@register_model(paper="https://example.org", source="own", code_license="MIT")
def tutorial_net(*, num_classes, in_chans=3, img_size=224, pretrained=False):
    """One convolution and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(in_chans, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )
'''
folder = Path(tempfile.mkdtemp())
(folder / "tutorial_net.py").write_text(NET)

# %%
plugin = folder / "tutorial_net.py"
selection = Selection(
    protocols=("smoke",), models=("tutorial_net",), datasets=("synthetic-bloodmnist",), seeds=(0,), plugins=(plugin,)
)
print(api.plan(selection, folder / "results")[0].state)
for row in api.check_model("tutorial_net"):
    print(row["check"], row["holds"])

# %%
outcome = api.run(selection, Launch(results=folder / "results", plugins=(str(plugin),)))
assert outcome.ok
print(api.plan(selection, folder / "results")[0].state)
bench.load_results(folder / "results")[["run_id", "status", "num_params", "test_auc", "test_acc"]]

# %% [markdown]
# The same on the command line: `medbench check`, `run` and `report` with `--plugin tutorial_net.py`. What comes next is
# the planned protocol on real data, and a pull request: [your own model](own.md).
