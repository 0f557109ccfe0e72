"""A user's script, checked by mypy --strict in `make lint` as in a project of the user's."""

from pathlib import Path

from torch import Tensor, nn
from torch.utils.data import TensorDataset

import potstill
from potstill import DistilledDataset, PotstillError, SourceDataset, progress_bar


class Mine(nn.Module):
    def __init__(self, channels: int, resolution: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * resolution**2, classes)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.layer(images.flatten(1))
        return outputs


def main(images: Tensor, labels: Tensor, folder: Path) -> float:
    source = SourceDataset.from_tensors(images, labels, images, labels, class_names=["a", "b"])
    other = SourceDataset.from_dataset(TensorDataset(images, labels), resolution=8)
    recipe = potstill.load_recipe({"images_per_class": 1}, ["seed=1"])
    with progress_bar() as bar:
        made: DistilledDataset = potstill.distill(recipe, source, folder, progress=bar)
    potstill.distill("quickstart/digits-rcig", TensorDataset(images, labels), progress=True)
    potstill.distill(3)  # type: ignore[arg-type]
    try:
        result = potstill.evaluate(made, source, network=Mine, teacher="teacher.safetensors")
    except PotstillError as error:
        print(error)
        return 0.0
    potstill.evaluate(folder, other, network=Mine(1, 8, 2), protocol="dc")
    potstill.keep(folder, result)
    audit = potstill.attack(made, source, steps=[1])
    print(audit.distilled.last.accuracy.mean, potstill.scores(made).lrs.value)
    print(len(potstill.continual(made, tasks=2).tasks), potstill.diversity(made).distance.mean)
    page: Path = potstill.write_report([folder], "page.html")
    imported = potstill.import_set(images, labels, space="pixels", source=source)
    imported.picture().save("picture.png")
    network_input: Tensor = made.preprocess.apply(made.pixels())
    print(page, network_input.shape, result.to_frame())
    return result.accuracy.mean
