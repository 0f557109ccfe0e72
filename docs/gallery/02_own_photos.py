"""
Your own photos
===============

A folder of class folders, as any photo collection can be sorted into, becomes a distilled set.
"""

# %%
# So that this page needs nothing from outside, it draws its own "photographs": three kinds of
# shape in light colours on dark ones, at random places, in pictures of random sizes, saved as
# JPEG.

from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw

from potstill import distill, evaluate, load_recipe, load_source

torch.set_num_threads(1)
root = Path(mkdtemp())
draw = np.random.default_rng(0)


def photograph(kind):
    width, height = draw.integers(44, 60, 2).tolist()
    light, dark = draw.integers(150, 256, 3), draw.integers(0, 90, 3)
    image = Image.new("RGB", (width, height), tuple(dark.tolist()))
    x, y, side = *draw.integers(6, 16, 2).tolist(), int(draw.integers(22, 28))
    pencil, box, colour = ImageDraw.Draw(image), (x, y, x + side, y + side), tuple(light.tolist())
    if kind == "disc":
        pencil.ellipse(box, fill=colour)
    elif kind == "square":
        pencil.rectangle(box, fill=colour)
    else:
        pencil.line(box, fill=colour, width=6)
    return image


for part, count in (("train", 60), ("test", 30)):
    for kind in ("disc", "line", "square"):
        folder = root / "shapes" / part / kind
        folder.mkdir(parents=True)
        for index in range(count):
            photograph(kind).save(folder / f"{index:03d}.jpg")

# %%
# The recipe names the folder and the size. ``standardise`` fits mean and deviation of each
# channel on the training images; they travel in the set.

recipe = load_recipe(
    {
        "data": {
            "dataset": "image_folder",
            "folder": "shapes",
            "resolution": 16,
            "preprocess": "standardise",
        },
        "images_per_class": 2,
        "network": {"width": 16, "growth": 1, "normalisation": "instance"},
        "method": {"kind": "dm", "iterations": 250, "real_batch": 16, "learning_rate": 3},
        "evaluation": {"protocol": "dsa", "networks": 2, "epochs": 100},
    }
)
source = load_source(recipe, root)
print(source)

# %%
# Two images a class, by distribution matching.

dataset = distill(recipe, source)
figure, axes = plt.subplots(1, 6, figsize=(9, 1.9))
for axis, image, label in zip(axes, dataset.pixels(), dataset.hard_labels().tolist(), strict=True):
    axis.imshow(image.permute(1, 2, 0).clamp(0, 1))
    axis.set_title(dataset.class_names[label], fontsize=9)
    axis.set_axis_off()
figure.tight_layout()

# %%
# Scored on the test photographs, beside six random training photographs.

result = evaluate(dataset, source, baseline=True)
print(f"distilled {100 * result.accuracy.mean:.1f} %, random {100 * result.baseline.mean:.1f} %")

# %%
# On the command line the same dictionary stands in a file: ``potstill data check shapes`` says
# first what the folder holds, ``potstill distill shapes.yaml --data-root .`` and ``potstill
# evaluate`` do the rest. Images that are in memory need no folder:
# ``SourceDataset.from_tensors`` and ``from_dataset`` take them.
