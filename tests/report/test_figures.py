"""The map of images as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from potstill.errors import RunError
from potstill.report import write_map
from potstill.results import Diversity
from tests.report import synthetic


def audit(**changes: Any) -> Diversity:
    return Diversity.model_validate(synthetic.diversity() | changes)


def test_the_ending_chooses_the_form(tmp_path: Path) -> None:
    write_map(audit(), tmp_path / "map.png")
    assert Image.open(tmp_path / "map.png").format == "PNG"
    write_map(audit(), tmp_path / "map.svg")
    assert "<svg" in (tmp_path / "map.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({}, "map.jpg", "neither in .png nor in .svg"),
        ({"embedding": None}, "map.png", "too few images"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, changes, name, words) -> None:
    with pytest.raises(RunError, match=words) as caught:
        write_map(audit(**changes), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name).exists()
