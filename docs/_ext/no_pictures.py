"""`.. plot::` without the picture, for a build that checks words and links."""

from docutils.parsers.rst import Directive, directives


class NoPicture(Directive):
    """Take what the directive of matplotlib takes, and draw nothing."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = {
        "alt": directives.unchanged,
        "context": directives.unchanged,
        "include-source": directives.unchanged,
    }

    def run(self):
        """Leave no trace."""
        return []


def setup(app):
    """Register the directive in place of that of matplotlib."""
    app.add_directive("plot", NoPicture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
