"""
Compare methods
===============

Six ways to ten images of the digits, scored under one protocol.
"""

# %%
# Methods compare only under one protocol, one network and one size, on sets from several starts.
# This page has one start and short runs: it shows how, and decides nothing.

import matplotlib.pyplot as plt
import torch

from potstill import distill, evaluate, load_recipe, load_source

torch.set_num_threads(1)
NETWORK = {"name": "convnet", "width": 16, "depth": 2, "growth": 1, "normalisation": "instance"}
METHODS = {
    "random": {"kind": "coreset", "algorithm": "random"},
    "herding": {"kind": "coreset", "algorithm": "herding", "features": "pixels"},
    "DM": {"kind": "dm", "iterations": 300, "real_batch": 16, "learning_rate": 10},
    "DC": {"kind": "dc", "iterations": 60, "real_batch": 16, "learning_rate": 0.5},
    "DataDAM": {"kind": "datadam", "iterations": 200, "real_batch": 16, "learning_rate": 0.1},
    "RCIG": {
        "kind": "rcig",
        "iterations": 40,
        "target_batch": 256,
        "image_learning_rate": 0.03,
        "label_learning_rate": 0.01,
    },
}

# %%
# A recipe from Python is a dictionary of what a YAML file would hold.

sets, source = {}, None
for name, method in METHODS.items():
    network = NETWORK | ({"normalisation": "none"} if name == "RCIG" else {})
    recipe = load_recipe({"name": name, "method": method, "network": network})
    source = source or load_source(recipe)
    sets[name] = distill(recipe, source)

# %%
# Ten images by each, a row a method.

figure, axes = plt.subplots(len(sets), 10, figsize=(9, 5.6))
for row, (name, dataset) in zip(axes, sets.items(), strict=True):
    order = dataset.hard_labels().argsort()
    for axis, image in zip(row, dataset.pixels()[order], strict=True):
        axis.imshow(image[0].clamp(0, 1), cmap="gray")
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.tight_layout()

# %%
# One protocol for all: hard labels, SGD, no augmentation, 100 epochs, three networks with
# instance norm. It leaves out the labels that RCIG has learned with its images, and the network
# is not RCIG's.

judge = "convnet:instance,width=16,depth=2"
print(f"{'method':10} accuracy")
accuracies = {}
for name, dataset in sets.items():
    result = evaluate(dataset, source, protocol="dc", network=judge, networks=3, epochs=100)
    accuracies[name] = result.accuracy
    print(f"{name:10} {100 * result.accuracy.mean:5.1f} ± {100 * result.accuracy.std:.1f} %")

# %%
# The deviation is over networks on one set, and says nothing of how sets differ.

figure, axis = plt.subplots(figsize=(7, 2.8))
means = [100 * accuracy.mean for accuracy in accuracies.values()]
spreads = [100 * accuracy.std for accuracy in accuracies.values()]
axis.bar(list(accuracies), means, yerr=spreads, capsize=3)
axis.set_ylabel("accuracy, %")
figure.tight_layout()

# %%
# ``potstill.compare`` and ``potstill compare`` do all of this for recipes and sets by name: several
# sizes, seeds and protocols, what is missing made and scored, one table and one picture at the end.
