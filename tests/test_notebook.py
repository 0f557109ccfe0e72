"""A notebook, executed by Jupyter's own kernel: a set is made, shown and scored in its cells."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

SOURCE = str(Path(__file__).parents[1] / "src")

MAKE = """
import potstill

recipe = {
    "images_per_class": 1,
    "method": {"iterations": 2, "target_batch": 32},
    "network": {"width": 4, "depth": 1},
}
source = potstill.load_source("digits")
dataset = potstill.distill(recipe, source, device="cpu", progress=True)
"""
SCORE = """
result = potstill.evaluate(
    dataset, source, networks=2, protocol="rcig-paper", steps=2, device="cpu"
)
result.to_frame()
"""
MISTAKE = 'potstill.distill({"method": {"iteration": 2}}, source)'


@pytest.fixture
def executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run cells one after the other, errors included; their outputs."""
    monkeypatch.setenv("PYTHONPATH", SOURCE)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(*cells: str) -> list[list[Any]]:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        place = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(book, timeout=120, allow_errors=True, resources=place).execute()
        return [cell["outputs"] for cell in book["cells"]]

    return run


def test_a_set_is_made_shown_and_scored_in_cells(executed: Any) -> None:
    made, shown, scored, mistaken = executed(MAKE, "dataset", SCORE, MISTAKE)
    told = "".join(output["text"] for output in made if output["output_type"] == "stream")
    assert "iteration 2/2" in told
    (picture,) = shown
    assert base64.b64decode(picture["data"]["image/png"]).startswith(b"\x89PNG")
    assert "<img" in picture["data"]["text/html"]
    assert picture["data"]["text/plain"].startswith("DistilledDataset(")
    (table,) = (output for output in scored if output["output_type"] == "execute_result")
    assert "accuracy" in str(table["data"])
    (error,) = mistaken
    assert error["ename"] == "RecipeError"
    assert "did you mean method.iterations?" in error["evalue"]
