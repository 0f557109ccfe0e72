"""
Audit privacy
=============

Can one tell from a network which images its training set was distilled from?
"""

# %%
# Five attacks guess from the outputs of a network whether an image was among the data. An area of
# 0.5 under an attack's curve is a guess, 1 is certainty.

import matplotlib.pyplot as plt
import torch

from potstill import attack, distill, load_recipe, load_source

torch.set_num_threads(1)
changes = ["data.train_images=300", "method.iterations=20", "network.width=16"]
recipe = load_recipe("quickstart/digits-rcig", changes)
source = load_source(recipe)
dataset = distill(recipe, source)

# %%
# Networks are trained on the ten distilled images, on ten random members, and on all 300 members.

audit = attack(
    dataset,
    source,
    steps=(500,),
    networks=1,
    folds=3,
    baselines=True,
    augment=False,
)
trained = {"distilled": audit.distilled, **audit.baselines}
for name, target in trained.items():
    print(f"{name:12}", {kind: round(area.mean, 2) for kind, area in target.last.auc.items()})
for warning in audit.warnings:
    print("warning:", warning)

# %%
# A low area is a finding about these attacks on these networks, and no proof that nothing leaks.

figure, axis = plt.subplots(figsize=(8, 3))
attacks = list(audit.attacks)
for place, (name, target) in enumerate(trained.items()):
    shifted = [index + 0.26 * (place - 1) for index in range(len(attacks))]
    axis.bar(shifted, [target.last.auc[kind].mean for kind in attacks], 0.24, label=name)
axis.axhline(0.5, color="gray", linewidth=1)
axis.set_xticks(range(len(attacks)), attacks)
axis.set(ylim=(0.4, 1), ylabel="area under the curve")
axis.legend(fontsize=8)
figure.tight_layout()
