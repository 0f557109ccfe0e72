"""The map of images as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from potstill.errors import RunError
from potstill.report import write_map
from tests.report import synthetic


def test_the_ending_chooses_the_form(tmp_path: Path) -> None:
    write_map(synthetic.diversity(), tmp_path / "map.png")
    assert Image.open(tmp_path / "map.png").format == "PNG"
    write_map(synthetic.diversity(), tmp_path / "map.svg")
    assert "<svg" in (tmp_path / "map.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({}, "map.jpg", "neither in .png nor in .svg"),
        ({"embedding": None}, "map.png", "too few images"),
        ({"distance": 3}, "map.png", "no diversity audit"),
        ({"kind": "membership"}, "map.png", "no diversity audit"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, changes, name, words) -> None:
    with pytest.raises(RunError, match=words) as caught:
        write_map(synthetic.diversity() | changes, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name).exists()
