"""The documentation without Sphinx: its links, its pages for everything, its Python."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from potstill import __version__, cli, methods
from potstill.evaluation.protocol import PROTOCOLS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path for path in DOCS.rglob("*.md") if not {"_generated", "auto_gallery"} & {*path.parts}
)
GALLERY = sorted((DOCS / "gallery").glob("*.py"))
# What a build writes before it reads, by the page it becomes.
MADE = {
    "auto_gallery/index.rst": DOCS / "gallery" / "GALLERY_HEADER.rst",
    **{f"auto_gallery/{path.stem}.rst": path for path in GALLERY},
}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def aim(page: Path, target: str) -> Path:
    """The file that a path on a page means."""
    path = (page.parent / target).resolve()
    made = MADE.get(path.relative_to(DOCS).as_posix()) if path.is_relative_to(DOCS) else None
    return made or path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_and_includes_lead_somewhere(page: Path) -> None:
    text = text_of(page)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith(("http", "#")):
            assert aim(page, target.partition("#")[0]).is_file(), target
    for target, options in re.findall(
        r"^```\{include\} (\S+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE
    ):
        if "_generated" not in target:
            included = text_of(aim(page, target))
            for marker in re.findall(r'^:(?:start-after|end-before): "(.*)"$', options, re.M):
                assert included.count(marker.replace("\\n", "\n")) == 1, marker
    for listed in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        for line in listed.splitlines():
            if line and not line.startswith(":"):
                found = [aim(page, line + ending) for ending in (".md", ".rst")]
                assert any(path.is_file() for path in found), line


def test_every_page_is_in_the_contents() -> None:
    listed = {"index"}
    for page in PAGES:
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```$", text_of(page), re.DOTALL | re.M):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {
                (page.parent / line).resolve().relative_to(DOCS).as_posix() for line in lines
            }
    listed |= {"api/potstill"}  # in api/index.rst
    assert {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES} <= listed


def test_every_method_and_every_protocol_has_its_place() -> None:
    for name in (*methods.names(), "sre2l"):
        text = text_of(DOCS / "methods" / f"{name}.md")
        for heading in ("What it does", "The mathematics", "In the code", "Measured"):
            assert f"## {heading}\n" in text, (name, heading)
    headings = re.findall(r"^### `(.*)`$", text_of(DOCS / "protocols.md"), re.MULTILINE)
    assert sorted(headings) == sorted(PROTOCOLS)


def test_what_pages_name_in_the_code_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"\{py:\w+\}`([\w.]+)`", text_of(page)):
            resolved(name)


def resolved(name: str) -> object:
    """The module or object of a dotted name."""
    import pkgutil

    return pkgutil.resolve_name(name)


def test_the_version_is_one() -> None:
    """That of the package stands in the citation and heads the changelog."""
    (cited,) = re.findall(r"^version: (.*)$", text_of(ROOT / "CITATION.cff"), re.MULTILINE)
    newest = re.search(r"^## (\S+)", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert cited == newest[1] == __version__


@pytest.mark.parametrize("script", GALLERY, ids=lambda path: path.stem)
def test_the_gallery_imports_what_there_is(script: Path) -> None:
    """It is run whenever the site is built; here its imports are, and its form is looked at."""
    tree = ast.parse(text_of(script))
    title, line, *_ = (ast.get_docstring(tree) or "").splitlines()
    assert set(line) == {"="} and len(line) >= len(title)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("potstill"):
            for alias in node.names:
                resolved(f"{node.module}:{alias.name}")


def test_the_python_of_the_first_pages_runs(tmp_path: Path) -> None:
    """In one folder, page by page: what one snippet writes, the next may read."""
    source = str(Path(cli.__file__).parents[2])
    for page in ("start.md", "how-to/own-images.md"):
        snippets = re.findall(
            r"^```python\n(.*?)^```$", text_of(DOCS / page), flags=re.DOTALL | re.MULTILINE
        )
        assert snippets
        code = f"import sys; sys.path.insert(0, {source!r})\n" + "\n".join(snippets)
        small = code.replace("method.iterations=10", "method.iterations=2")
        done = subprocess.run(
            [sys.executable, "-c", small], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
