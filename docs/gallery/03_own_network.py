"""
Your own network
================

A set is made with a network and scored on others. Both can be yours: a function that makes a
module.
"""

# %%
# A factory takes channels, resolution and classes. It lives in a module that Python can import,
# since a recipe names it by text; here the module is written first.

import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch

from potstill import distill, evaluate, load_recipe, load_source
from potstill.networks.parsing import parse_network

torch.set_num_threads(1)
folder = Path(mkdtemp())
(folder / "my_networks.py").write_text(
    """
from torch import nn


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
"""
)
sys.path.insert(0, str(folder))
import my_networks

print(my_networks.small(channels=1, resolution=8, classes=10))

# %%
# RCIG distils with any network that ends in a linear layer and draws nothing at random.

changes = ["network.name=my_networks:small", "method.iterations=30"]
recipe = load_recipe("quickstart/digits-rcig", changes)
source = load_source(recipe.data, None)
dataset = distill(recipe, source)

# %%
# Scored on the network that made it, and on potstill's ConvNet with and without batch norm.

names = ["my_networks:small", "convnet:none,width=32,depth=2", "convnet:batch,width=32,depth=2"]
scores = {}
for name in names:
    network = parse_network(name, resolution=source.resolution)
    result = evaluate(dataset, source, network=network, networks=1, baseline=True)
    scores[name] = (100 * result.accuracy.mean, 100 * result.baseline.mean)
    print(f"{name:32} {scores[name][0]:5.1f} %   random real images {scores[name][1]:5.1f} %")

# %%
# A set is best for networks like the one that made it. How much is lost on others is part of its
# worth.

figure, axis = plt.subplots(figsize=(8, 2.6))
places = range(len(names))
axis.barh([place + 0.2 for place in places], [scores[name][0] for name in names], 0.38)
axis.barh([place - 0.2 for place in places], [scores[name][1] for name in names], 0.38)
axis.set_yticks(list(places), [name.split(",")[0] for name in names])
axis.set_xlabel("accuracy, %")
axis.legend(["distilled", "random real images"], fontsize=8)
figure.tight_layout()
