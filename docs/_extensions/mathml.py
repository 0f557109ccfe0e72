"""Formulas as MathML, which browsers draw themselves: no script, no font, no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


def _drawn(node: nodes.math | nodes.math_block, *, inline: bool) -> str:
    text = node.astext()
    try:
        return tex2mathml(text, as_block=not inline)
    except MathError as error:
        _log.warning("formula %r: %s", text, error, location=node)
        return f"<code>{text}</code>"


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_drawn(node, inline=True))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{_drawn(node, inline=False)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
