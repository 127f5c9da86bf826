"""The site: it builds without a warning, its links lead somewhere, and its examples run."""

import re
import runpy
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from skhash import DeepRankingHasher, ITQHasher
from skhash._site import SITE
from skhash.base import BaseHasher
from skhash.neighbors import HammingNeighbors, HammingNeighborsTransformer

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "gallery_src").glob("plot_*.py"))
# What a browser fetches by itself.
FETCHED = {"img": "src", "link": "href", "script": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built of a copy, since a build writes beside its sources; pictures left out."""
    for package in ("latex2mathml", "numpydoc", "pydata_sphinx_theme", "sphinx_copybutton"):
        pytest.importorskip(package)
    pytest.importorskip("sphinx_gallery")
    folder = tmp_path_factory.mktemp("site")
    built = shutil.ignore_patterns("_build", "auto_examples", "generated")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=built)
    for name in ("CHANGELOG.md", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, folder)
    options = ["-q", "-W", "--keep-going", "-t", "no_pictures", "-D", "plot_gallery=0"]
    command = [sys.executable, "-m", "sphinx", *options, "-b", "html", "docs", "html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Page(HTMLParser):
    """Anchors and addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.addresses, self.fetched = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name") if tag == "a" else None}
        if address := attrs.get(FETCHED.get(tag, "href")):
            is_fetched = tag in FETCHED and attrs.get("rel") != "canonical"
            (self.fetched if is_fetched else self.addresses).add(address)


@pytest.fixture(scope="module")
def pages(site):
    # Sphinx lists modules there whose source no page shows; nothing links to the list.
    left_out = site / "_modules" / "index.html"
    found = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    found.remove(left_out)
    return {path.resolve(): Page(path) for path in found}


def broken(pages):
    """Yield page and address of each link within the site that leads nowhere."""
    for path, page in pages.items():
        for address in page.addresses | page.fetched:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                yield path.name, address


def test_links(pages):
    assert len(pages) > 100
    assert list(broken(pages)) == []


def test_pages_need_no_network(pages):
    """Links may lead out of the site; what a page is shown with is in it."""
    outside = {a for page in pages.values() for a in page.fetched if urlsplit(a).netloc}
    assert outside == set()
    assert not [a for page in pages.values() for a in page.addresses if a.startswith("mailto:")]


@pytest.mark.parametrize(
    "estimator", [DeepRankingHasher(), ITQHasher(), HammingNeighbors, HammingNeighborsTransformer]
)
def test_question_mark_leads_to_page(estimator, site):
    estimator = estimator() if isinstance(estimator, type) else estimator
    link = estimator._get_doc_link()
    assert link.startswith(f"{SITE}/")
    assert f'href="{link}"' in estimator._repr_html_()
    assert (site / link.removeprefix(f"{SITE}/")).is_file()


def test_hasher_of_another_package_has_no_page():
    class MyHasher(BaseHasher):
        """A hasher that is not one of skhash."""

        def __init__(self, n_bits=8):
            self.n_bits = n_bits

        def _fit(self, X, Y):
            pass

        def _project(self, X):
            return X[:, : self.n_bits]

    assert MyHasher()._get_doc_link() == ""


def test_formulas_are_in_the_page(site):
    text = (site / "metrics.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 50
    assert r"\frac" not in text


def test_parameters_are_in_one_group_each():
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    groups = re.findall(r"parameters:: skhash.DeepRankingHasher\n\n((?:   .+\n)+)", text)
    names = " ".join(groups).split()
    assert sorted(names) == sorted(DeepRankingHasher().get_params(deep=False))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example):
    runpy.run_path(str(example))
