"""Configuration of the documentation. Building it needs no network."""

from pathlib import Path

from matplotlib import rc_params_from_file

import skhash

project = "skhash"
author = "the skhash developers"
copyright = author
version = release = skhash.__version__

extensions = [
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
default_role = "literal"
add_module_names = False

# Members are listed by docs/_templates/autosummary/class.rst, which leaves out those that
# scikit-learn and torch define.
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"skhash {release}"
html_copy_source = False
html_show_sphinx = False

# Pictures of the docs: the code is shown above them, and no other formats are linked.
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 80)]
_style = Path(__file__).with_name("both_grounds.mplstyle")
plot_rcparams = dict(rc_params_from_file(_style, use_default_template=False))
plot_apply_rcparams = True
