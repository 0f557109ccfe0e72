"""
Distil the digits
=================

Ten images from 1,442, learned by RCIG in a few dozen steps, and what a network makes of them.
"""

# %%
# A recipe decides everything. This one is shipped; its keys can be changed by name.

import matplotlib.pyplot as plt
import torch

from potstill import distill, evaluate, load_recipe, load_source

torch.set_num_threads(1)
recipe = load_recipe("quickstart/digits-rcig", ["method.iterations=25"])
source = load_source(recipe)
print(len(source.train.labels), "training images of", source.resolution, "px")

# %%
# Progress is a function that is told of every step. Here it collects the outer loss.

losses = []


def remember(stage, done, total, **values):
    if "loss" in values:
        losses.append(values["loss"])


dataset = distill(recipe, source, progress=remember)
print(dataset.images.shape, "images in network space,", dataset.labels.shape, "labels")

# %%
# What was learned, in natural greys. Above it a real image of each class.

pixels = dataset.pixels()
first = [(source.train.labels == index).nonzero()[0, 0] for index in range(10)]
figure, axes = plt.subplots(2, 10, figsize=(10, 2.4))
for index in range(10):
    axes[0, index].imshow(source.train.images[first[index], 0], cmap="gray")
    axes[1, index].imshow(pixels[index, 0].clamp(0, 1), cmap="gray")
for axis in axes.flat:
    axis.set_axis_off()
axes[0, 0].set_title("real", loc="left", fontsize=9)
axes[1, 0].set_title("learned", loc="left", fontsize=9)
figure.tight_layout()

# %%
# The labels are learned as well. A row is an image; off the diagonal stands what it says of
# others.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
left.plot(losses)
left.set(xlabel="iteration", ylabel="outer loss")
shown = right.imshow(dataset.labels, cmap="RdBu", vmin=-1, vmax=1)
right.set(xlabel="class", ylabel="image", xticks=range(10), yticks=range(10))
figure.colorbar(shown, ax=right)
figure.tight_layout()

# %%
# Two fresh networks are trained on the ten images, two on ten random real ones, under the
# protocol that the set was made for. The result is that after the last step.

result = evaluate(dataset, source, networks=2, baseline=True)
print(f"distilled: {100 * result.accuracy.mean:.1f} %   by network: {result.accuracy.values}")
print(f"random real images: {100 * result.baseline.mean:.1f} %")

# %%
# One file holds all of it.

from pathlib import Path
from tempfile import TemporaryDirectory

from potstill import DistilledDataset

with TemporaryDirectory() as folder:
    path = Path(folder) / "digits.safetensors"
    dataset.save(path)
    again = DistilledDataset.load(path)
    print(f"{path.stat().st_size:,} bytes, digest {again.digest[:12]}")
