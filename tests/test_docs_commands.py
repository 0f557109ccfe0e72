"""Every command and every snippet of the documentation's pages runs, and so does its gallery.

The README's are in tests/test_readme.py. These take minutes: they belong to make test-long.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from potstill import cli
from potstill.runs import DISTILLED
from tests.test_readme import SETTING_UP, newcomer, printed, small

DOCS = Path(__file__).parents[1] / "docs"
# In this order: the first makes what later ones score.
PAGES = ("index", "start", "how-to/install", "how-to/own-images", "how-to/own-network")
PAGES += ("how-to/reproduce", "how-to/resume", "compare", "regimes", "reliability", "published")
GALLERY = sorted((DOCS / "gallery").glob("*.py"))
ENOUGH = {"hl", "sl", "sl-kd"}

__all__ = ["newcomer"]


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands_of(page: str) -> list[list[str]]:
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line]


def smaller(words: list[str]) -> list[str]:
    """The README's way, and label regimes that show few images."""
    words = [f"{word}:50" if word in ENOUGH else word for word in words]
    if words[0] == "reproduce" and "--list" not in words:
        # Of several rows one.
        words = ["rcig/mnist-ipc1" if word == "mnist-ipc1 *" else word for word in words]
        sets = ("network.width=2", "network.depth=1", "method.iterations=2", "method.pool.size=2")
        return [*words, *(word for one in sets for word in ("--set", one)), "--device", "cpu"]
    return small(words)


@pytest.mark.long
def test_the_commands_of_every_page_run(newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, own in zip(("pets",), blocks("how-to/own-images", "yaml"), strict=True):
        (newcomer / f"{name}.yaml").write_text(own)
    (networks,) = blocks("how-to/own-network", "python")
    (newcomer / "my_networks.py").write_text(networks)
    assert {path.stem for path in DOCS.glob("*.md") if blocks(path.stem, "sh")} <= {*PAGES}
    ran = []
    for page in PAGES:
        for program, *words in commands_of(page):
            if program != "potstill":
                assert shlex.join([program, *words]) in SETTING_UP or program in (
                    "make",
                    "pip",
                    "python3",
                )
                continue
            capsys.readouterr()
            code = cli.run(smaller(words))
            assert code == 0, f"{page}: {words}: {capsys.readouterr().err}"
            ran.append(words[0])
            if words[0] == "quickstart":
                for kind, place in (("rcig", "digits"), ("dwa", "dwa")):
                    made = newcomer / "runs/quickstart" / kind
                    shutil.copytree(made, newcomer / "runs" / place, dirs_exist_ok=True)
            if words[0] == "distill" and "runs/mnist" in words:
                (newcomer / "old").mkdir(exist_ok=True)
                shutil.copy(newcomer / "runs/mnist" / DISTILLED, newcomer / "old" / DISTILLED)
    assert {"distill", "evaluate", "compare", "reproduce", "report", "data", "gallery"} <= {*ran}
    compared, *_ = blocks("compare", "python")
    quick = compared.replace('["hl"]', '["hl:50"], settings=["network.width=2"]')
    assert printed(quick, newcomer)


@pytest.mark.long
@pytest.mark.parametrize("script", GALLERY, ids=lambda path: path.stem)
def test_the_gallery_runs(script: Path, tmp_path: Path) -> None:
    source = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
