"""Configuration of the documentation. Building it needs no network."""

import sys
from pathlib import Path

from matplotlib import rc_params_from_file

import skhash
from skhash._site import SITE, DocLinkMixin

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "skhash"
author = "the skhash developers"
copyright = author
version = release = skhash.__version__

extensions = [
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "included",
    "mathml",
]
if tags.has("no_pictures"):  # noqa: F821
    extensions[extensions.index("matplotlib.sphinxext.plot_directive")] = "no_pictures"
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "gallery_src", "auto_examples/sg_execution_times.rst"]
exclude_patterns += ["sg_execution_times.rst"]
default_role = "literal"
add_module_names = False
toc_object_entries_show_parents = "hide"
nitpicky = True

# Members are listed by docs/_templates/autosummary/class.rst, which leaves out those that
# scikit-learn and torch define.
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"skhash {release}"
html_baseurl = f"{SITE}/"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_sidebars = {page: [] for page in ("index", "faq", "citation", "whats_new")}
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# The names that pages link to, kept here: no build asks for the inventories of other projects.
intersphinx_mapping = {
    name: (address, str(HERE / "inventories" / f"{name}.inv"))
    for name, address in {
        "joblib": "https://joblib.readthedocs.io/en/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "python": "https://docs.python.org/3/",
        "scikit-learn": "https://scikit-learn.org/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
        "torchvision": "https://docs.pytorch.org/vision/stable/",
    }.items()
}

# Pictures of the docs: the code is shown above them, and no other formats are linked.
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 80)]
plot_rcparams = dict(
    rc_params_from_file(HERE / "both_grounds.mplstyle", use_default_template=False)
)
plot_apply_rcparams = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery_src",
    "gallery_dirs": "auto_examples",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_", "__repr__"),
    "download_all_examples": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib", "gallery_style.reset"),
    "show_memory": False,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
}
# In the gallery, the "?" of a hasher leads to the pages that are being built.
DocLinkMixin._doc_link_template = "../generated/{page}.html"
