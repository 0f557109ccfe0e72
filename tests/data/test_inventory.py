"""What an inventory says of data that are not the same any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from potstill.data.inventory import Inventory
from potstill.data.source import SourceDataset, Split, fingerprint
from potstill.errors import RunError

NAMES = ("cat", "dog", "owl")


def source(
    train: tuple[int, ...] = (3, 2, 4),
    test: tuple[int, ...] = (1, 1, 1),
    names: tuple[str, ...] = NAMES,
    side: int = 2,
) -> SourceDataset:
    """Black images, so many of each class."""

    def split(counts: tuple[int, ...]) -> Split:
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        return Split(torch.zeros(len(labels), 1, side, side, dtype=torch.uint8), labels)

    parts = split(train), split(test)
    return SourceDataset("animals", names, *parts, fingerprint(*parts))


def painted() -> SourceDataset:
    """One pixel of one training image is white."""
    before = source()
    images = before.train.images.clone()
    images[4, 0, 1, 1] = 255
    train = Split(images, before.train.labels)
    return replace(before, train=train, fingerprint=fingerprint(train, before.test))


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (source(), []),
        (
            source((3, 4), (1, 1), ("cat", "owl")),
            ["class 'dog' was removed"],
        ),
        (
            source((3, 2, 1, 4), (1, 1, 0, 1), ("cat", "dog", "emu", "owl")),
            ["class 'emu' was added"],
        ),
        (
            source(names=("cat", "fox", "owl")),
            ["class 'dog' was removed", "class 'fox' was added"],
        ),
        (source(names=("dog", "cat", "owl")), ["the classes come in another order"]),
        (source((3, 1, 4)), ["class 'dog' has 1 training images and had 2"]),
        (source(test=(1, 1, 5)), ["class 'owl' has 5 test images and had 1"]),
        (source(side=3), ["images are of (1, 3, 3) and were of (1, 2, 2)"]),
        (painted(), ["images were altered or exchanged, as many of each class"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_changed_is_named(now: SourceDataset, said: list[str]) -> None:
    found = Inventory.of(source()).differences(Inventory.of(now))
    if "order" in "".join(said):  # the numbers of two classes that changed places did, too
        found = found[:1]
    assert found == said


def test_what_a_header_states_is_compared_without_numbers() -> None:
    known = Inventory.stated(source().document(), NAMES)
    assert known.differences(Inventory.of(source())) == []
    assert known.differences(Inventory.of(source(side=3))) == [
        "images are of (1, 3, 3) and were of (1, 2, 2)"
    ]
    for other in (painted(), source((3, 1, 4))):
        assert known.differences(Inventory.of(other)) == ["images were altered, added or removed"]
    sizes_unknown = Inventory.stated({"fingerprint": source().fingerprint}, NAMES)
    assert sizes_unknown.differences(Inventory.of(source())) == []


def test_the_refusal_is_one_line_with_a_remedy_however_much_changed(tmp_path: Path) -> None:
    names = tuple(f"class\n{number}" for number in range(50))
    before = Inventory.of(source((1,) * 50, (1,) * 50, names))
    with pytest.raises(RunError) as caught:
        before.require_same(Inventory.of(source()), tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path} is of other data: class 'class\\n0' was removed, ")
    assert message.endswith(" and 50 more; restore the data as they were, or use another --out")
    assert "\n" not in message


def test_an_inventory_comes_back_the_same_from_json() -> None:
    before = Inventory.of(source())
    assert Inventory.model_validate_json(before.model_dump_json()) == before
    assert [*Inventory.model_validate(before.model_dump(mode="json")).classes] == [*NAMES]
