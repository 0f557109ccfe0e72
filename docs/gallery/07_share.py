"""
Share a set
===========

A set is one file. Whoever gets it can see what it is, train on it, and check what is said of it.
"""

# %%
# A small set, scored, so that the file carries a result.

import json
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch

from potstill import DistilledDataset, distill, evaluate, import_set, load_recipe, load_source

torch.set_num_threads(1)
recipe = load_recipe("quickstart/digits-rcig", ["method.iterations=10", "network.width=16"])
source = load_source(recipe)
dataset = distill(recipe, source)
dataset = dataset.with_result(evaluate(dataset, source, networks=1).document())
folder = Path(mkdtemp())
dataset.save(folder / "digits.safetensors")
plt.figure(figsize=(9, 1.2))
plt.imshow(np.concatenate(list(dataset.pixels()[:, 0].clamp(0, 1)), axis=1), cmap="gray")
plt.axis("off")
plt.tight_layout()

# %%
# What the receiver sees without running anything of the sender's: no pickle, no code, no paths.

received = DistilledDataset.load(folder / "digits.safetensors")
told = {key: received.header[key] for key in ("method", "source", "evaluation", "versions")}
print(json.dumps(told, indent=1))
for result in received.results:
    print(f"{100 * result.accuracy.mean:.1f} % by {result.protocol}")

# %%
# A file that was altered is refused, whatever byte it was.

damaged = bytearray((folder / "digits.safetensors").read_bytes())
damaged[-100] ^= 1
(folder / "damaged.safetensors").write_bytes(damaged)
try:
    DistilledDataset.load(folder / "damaged.safetensors")
except Exception as error:
    print(type(error).__name__, error)

# %%
# For other code it is written as arrays, tensors or class folders of pictures. What was exported
# says what it is, and is taken in again as the same set.

dataset.export(folder / "digits.npz", "npz")
print(sorted(np.load(folder / "digits.npz").files))

# %%
# A set that comes without such a file, here as an ``.npz`` of pixels, becomes one when somebody
# says what it is. What cannot be true is refused.

pixels = (dataset.pixels().clamp(0, 1) * 255).round().byte()
np.savez(folder / "other.npz", images=pixels.numpy(), labels=dataset.hard_labels().numpy())
imported = import_set(folder / "other.npz", space="pixels", source=source)
for check in imported.header["import"]["checks"]:
    print(f"{check['verdict']:8}{check['check']:42}{check['value']}")
