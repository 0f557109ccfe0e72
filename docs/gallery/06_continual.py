"""
Learn in tasks
==============

Classes arrive a few at a time. After each task a network is trained from scratch on the distilled
images of all classes so far: a memory of one image a class.
"""

# %%
# The set is distilled once; the audit hands its classes out task by task.

import matplotlib.pyplot as plt
import torch

from potstill import continual, distill, load_recipe, load_source

torch.set_num_threads(1)
settings = {
    "method": {"kind": "dm", "iterations": 300, "real_batch": 16, "learning_rate": 10},
    "network": {"width": 16, "depth": 2, "growth": 1, "normalisation": "instance"},
}
recipe = load_recipe(settings)
source = load_source(recipe)
dataset = distill(recipe, source)

# %%
# Five tasks of two digits, beside a memory of as many random real images, with hard labels and
# one network a task, to be quick.

audit = continual(dataset, source, tasks=5, protocol="dc", epochs=100, networks=1, baseline=True)
for task in audit.tasks:
    print(f"{task.classes_so_far} classes: {100 * task.accuracy.mean:.1f} %", end="  ")
    print(f"random: {100 * task.baseline.mean:.1f} %")

# %%
# Tested after every task on all classes seen so far.

figure, axis = plt.subplots(figsize=(6, 3))
classes = [task.classes_so_far for task in audit.tasks]
axis.plot(classes, [100 * task.accuracy.mean for task in audit.tasks], "o-", label="distilled")
axis.plot(classes, [100 * task.baseline.mean for task in audit.tasks], "o-", label="random")
axis.set(xlabel="classes so far", ylabel="accuracy, %", xticks=classes)
axis.legend()
figure.tight_layout()
