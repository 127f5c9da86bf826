"""Formulas as MathML, written when the pages are built: no script, no fonts, no network."""

import re
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

# What latex2mathml does not know, and what it knows instead.
_REPLACED = {
    r"\arg": r"\operatorname{arg}\,",
    r"\Bigl\|": r"\Bigl‖",
    r"\Bigr\|": r"\Bigr‖",
    r"\_": "_",
}
# The bracket would be taken for an option of the environment.
_BRACKET = re.compile(r"(\\begin\{cases\})\s*\[")
_ENVIRONMENT = re.compile(r"\\begin\{(\w+)\}.*?\\end\{\1\}", re.DOTALL)


def mathml(latex, *, display):
    """Convert a formula; ValueError if a part of it is not understood."""
    outside = _ENVIRONMENT.sub("", latex)
    if "&" in outside or r"\\" in outside:
        latex = rf"\begin{{align*}}{latex}\end{{align*}}"
    for known, instead in _REPLACED.items():
        latex = latex.replace(known, instead)
    latex = _BRACKET.sub(r"\1{}[", latex)
    converted = convert(latex, display="block" if display else "inline")
    try:
        minidom.parseString(converted)
    except ExpatError as error:
        raise ValueError(str(error)) from error
    if unknown := re.search(r"[^<>]*\\[^<>]*", converted):
        raise ValueError(f"{unknown[0]} is not known")
    return converted


def _write(translator, node, *, display):
    """Append a formula to the page; what is not understood is a warning, and shown as it is."""
    try:
        translator.body.append(mathml(node.astext().strip(), display=display))
    except Exception as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        translator.body.append(translator.encode(node.astext()))


def visit_inline(translator, node):
    """Write a formula in a line."""
    _write(translator, node, display=False)
    raise nodes.SkipNode


def visit_display(translator, node):
    """Write a formula that stands alone, with its number."""
    translator.body.append(translator.starttag(node, "div", CLASS="math-block"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})</span>')
    for part in re.split(r"\n\s*\n", node.astext().strip()):
        _write(translator, nodes.math_block(part, part), display=True)
    translator.body.append("</div>")
    raise nodes.SkipNode


def setup(app):
    """Register the renderer, for `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
