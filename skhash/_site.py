"""Where the documentation is, and the links to it in the HTML of hashers."""

import sys

# The one place for this address. Its `generated/` holds a page for each public class.
SITE = "https://scikit-hash.readthedocs.io/en/stable"


class DocLinkMixin:
    """The "?" of the HTML representation leads to the page of the class.

    Classes of other packages have no page here, and scikit-learn gives them no link.
    """

    _doc_link_module = "skhash"
    _doc_link_template = SITE + "/generated/{page}.html"

    def _doc_link_url_param_generator(self):
        name = type(self).__name__
        module = type(self).__module__.split("._")[0]
        if not hasattr(sys.modules[module], name):
            module = "skhash"
        return {"page": f"{module}.{name}"}
