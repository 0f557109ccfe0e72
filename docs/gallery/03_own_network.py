"""
Your own network
================

A set is made with a network and scored on others. Both can be yours: a function that makes a
module, or a module itself.
"""

# %%
# A factory takes channels, resolution and classes.

import matplotlib.pyplot as plt
import torch
from torch import nn

from potstill import distill, evaluate, load_recipe, load_source

torch.set_num_threads(1)


def small(channels, resolution, classes):
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, classes),
    )


# %%
# RCIG distils with any network that ends in a linear layer and draws nothing at random.

recipe = load_recipe("quickstart/digits-rcig", ["method.iterations=30"])
source = load_source(recipe)
dataset = distill(recipe, source, network=small)

# %%
# Scored on the network that made it, and on potstill's ConvNet with and without batch norm.

networks = {
    "small, which made it": small,
    "ConvNet": "convnet:none,width=32,depth=2",
    "ConvNet, batch norm": "convnet:batch,width=32,depth=2",
}
scores = {}
for name, network in networks.items():
    result = evaluate(dataset, source, network=network, networks=1, baseline=True)
    scores[name] = (100 * result.accuracy.mean, 100 * result.baseline.mean)
    print(f"{name:22} {scores[name][0]:5.1f} %   random real images {scores[name][1]:5.1f} %")

# %%
# How much a set is worth on networks that did not make it is part of its worth.

figure, axis = plt.subplots(figsize=(8, 2.6))
places = range(len(scores))
axis.barh([place + 0.2 for place in places], [score[0] for score in scores.values()], 0.38)
axis.barh([place - 0.2 for place in places], [score[1] for score in scores.values()], 0.38)
axis.set_yticks(list(places), list(scores))
axis.set_xlabel("accuracy, %")
axis.legend(["distilled", "random real images"], fontsize=8, loc="lower right")
figure.tight_layout()

# %%
# In a recipe, and on the command line, such a network is named by its module:
# ``network.name: my_networks:small`` and ``--network my_networks:small``. A set never chooses what
# code runs: it is scored on a network of yours when you name it.
