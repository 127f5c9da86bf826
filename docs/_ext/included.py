"""Directives that take text from its one source: Markdown files, and docstrings of parameters."""

import re
from importlib import import_module
from pathlib import Path

from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from numpydoc.docscrape import ClassDoc
from sphinx.util.docutils import SphinxDirective

_UNDERLINES = "#=-~"


def restructured(markdown):
    """Rewrite the Markdown of this repository: headings, links, lists, tables and code spans."""
    lines = []
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines += [*_block(block.split("\n")), ""]
    return lines


def _block(lines):
    if heading := re.match(r"(#+) (.*)", lines[0]):
        title = heading[2]
        return [title, _UNDERLINES[len(heading[1])] * len(title), "", *lines[1:]]
    if lines[0].startswith("|"):
        return _table(lines)
    text = _spans("\n".join(lines))
    # A link of Markdown may break across lines.
    text = re.sub(r"\[([^\]`]+)\]\((\S+)\)", r"`\1 <\2>`__", text)
    return text.split("\n")


def _spans(text):
    """Rewrite spans of code; outside of them, NDCG@100 is not to be taken for an address."""
    parts = re.split(r"(?<!`)`([^`]+)`", text)
    parts[::2] = [part.replace("@", r"\@") for part in parts[::2]]
    parts[1::2] = [f"``{code}``" for code in parts[1::2]]
    return "".join(parts)


def _table(lines):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    written = [".. list-table::", "   :header-rows: 1", "   :class: figures", ""]
    for row in [rows[0], *rows[2:]]:
        written += [f"   {'*' if i == 0 else ' '} - {_spans(c)}" for i, c in enumerate(row)]
    return written


class Markdown(SphinxDirective):
    """``.. markdown:: FILE``, of it what stands from `from` to before `until`."""

    required_arguments = 1
    option_spec = {"from": directives.unchanged, "until": directives.unchanged}

    def run(self):
        """Parse the part of the file as if it stood here."""
        path, _ = self.env.relfn2path(self.arguments[0])[::-1]
        self.env.note_dependency(path)
        text = Path(path).read_text(encoding="utf-8")
        start = text.index(self.options["from"]) if "from" in self.options else 0
        end = text.index(self.options["until"], start) if "until" in self.options else None
        return self.parse_text_to_nodes(
            StringList(restructured(text[start:end]), path), allow_section_headings=True
        )


class Parameters(SphinxDirective):
    """``.. parameters:: module.Class``, then names: type, default and first sentence of each."""

    required_arguments = 1
    has_content = True

    def run(self):
        """Make a definition list of the parameters that are named."""
        module, name = self.arguments[0].rsplit(".", 1)
        documented = {
            p.name: p for p in ClassDoc(getattr(import_module(module), name))["Parameters"]
        }
        lines = []
        for parameter in " ".join(self.content).split():
            about = documented[parameter]
            text = " ".join(line.strip() for line in about.desc)
            sentence = re.match(r".*?[.;:](?=\s|$)", text)[0].rstrip(";:").rstrip(".") + "."
            lines += [f"**{parameter}** : {about.type}", f"   {sentence}", ""]
        return self.parse_text_to_nodes(StringList(lines, self.arguments[0]))


def setup(app):
    """Register the directives."""
    app.add_directive("markdown", Markdown)
    app.add_directive("parameters", Parameters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
