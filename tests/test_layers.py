"""The layers of the library: which module may import which, read from the source."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import SimpleNamespace

import pytest

import skhash

ROOT = Path(skhash.__file__).parent

# The one table of levels is that of the documentation.
TABLE = Path(__file__).parents[1] / "docs" / "design.rst"


def read_table():
    """Rows of the table: level, patterns of modules, patterns of what they may import."""
    text = TABLE.read_text(encoding="utf-8")
    text = text[text.index("   * - Level") : text.index("So a loss knows no network")]
    rows = []
    for cells in (row.split("\n     - ") for row in text.split("   * - ")[2:]):
        level, modules, may = int(cells[0]), *(re.findall("`([^`]+)`", c) for c in cells[1:])
        if "levels below" in cells[2]:
            may += [module for below, patterns, _ in rows if below < level for module in patterns]
        rows.append((level, modules, may))
    return rows


def matches(module, patterns):
    return any(fnmatchcase(module, pattern) for pattern in patterns)


ROWS = read_table()
# What the table does not name, such as a new hasher, may import all below the hashers.
BELOW_HASHERS = [pattern for level, modules, _ in ROWS if level < 3 for pattern in modules]

# Third-party packages with one place each.
PLACES = {
    "torch": lambda module: module.startswith("deep."),
    "torchvision": lambda module: module.startswith("deep."),
    "timm": lambda module: module.startswith("deep."),
    "matplotlib": lambda module: module.startswith("metrics._plot"),
    "faiss": lambda module: module in ("_engines", "export._faiss"),
    "pyarrow": lambda module: module in ("export._arrow", "_cli._parquet", "_encode._parquet"),
    "ray": lambda module: module == "_encode._ray",
    "onnx": lambda module: module == "deep._onnx",
    "onnxscript": lambda module: module == "deep._onnx",
    "safetensors": lambda module: module == "_persistence",
}
# Optional or slow to import, so only inside the function that needs them.
INSIDE_FUNCTIONS = {"timm", "matplotlib", "faiss", "onnx", "onnxscript", "pyarrow", "ray"}


def read_sources():
    """Source by module name without the leading `skhash.`; a package is its `__init__`."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(ROOT.rglob("*.py"))
    }


SOURCES = read_sources()
SKLEARN_PRIVATE = re.compile(r"sklearn(\.\w+)*\._")


def imported_names(tree):
    """Dotted names that the nodes of `tree` import, ``from a import b`` as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_at_top(tree):
    """Dotted names imported when the module is, that is outside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    pending, names = [tree], []
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names += imported_names(node)
        if not isinstance(node, functions):
            pending += ast.iter_child_nodes(node)
    return names


def own_module(name, modules):
    """The module of skhash that `name` is or comes from, a package as its `__init__`, or None."""
    top, _, inner = name.partition(".")
    if top != "skhash":
        return None
    for module in (inner, f"{inner}.__init__".removeprefix(".")):
        if module in modules:
            return module
    return own_module(name.rpartition(".")[0], modules)


def violations(module, sources):
    """Sentences, one for each import of the module that breaks the table."""
    tree = ast.parse(sources[module])
    names = list(imported_names(tree))
    yield from (f"{module} imports {name}, relatively" for name in names if name[0] == ".")
    yield from (f"{module} imports {name}" for name in names if name.endswith(".*"))
    for top in {name.split(".")[0] for name in names} & set(PLACES):
        if not PLACES[top](module):
            yield f"{module} imports {top}"
    for top in {name.split(".")[0] for name in imported_at_top(tree)} & INSIDE_FUNCTIONS:
        yield f"{module} imports {top} at its top"
    if module != "_sklearn":
        yield from (f"{module} imports {name}" for name in names if SKLEARN_PRIVATE.match(name))
    for other in {own_module(name, sources) for name in names} - {module, None}:
        if not allowed(module, other):
            yield f"{module} imports {other}"


def allowed(module, other):
    if module.endswith("__init__"):
        # A package shows what its own modules and packages define.
        return other.startswith(module.removesuffix("__init__"))
    if other == "__init__":
        return module in ("_load", "utils") or module.startswith("_cli.")
    may = next((may for _, modules, may in ROWS if matches(module, modules)), BELOW_HASHERS)
    # What a package shows is to be imported from the module that defines it.
    is_shown = other.endswith("__init__") and other not in ("deep.losses.__init__",)
    return matches(other, may) and not is_shown


def import_graph(sources):
    """What each module imports when it is imported, packages as their `__init__` counted."""
    graph = {}
    for module, source in sources.items():
        names = imported_at_top(ast.parse(source))
        direct = {own_module(name, sources) for name in names} - {module, None}
        # With a module come the packages that it is in, but for those that are at it already.
        around = {package for other in direct for package in packages_of(other, sources)}
        graph[module] = direct | (around - packages_of(module, sources) - {module})
    return graph


def packages_of(module, sources):
    parts = module.split(".")[:-1]
    packages = {".".join([*parts[:n], "__init__"]) for n in range(1, len(parts) + 1)}
    return (packages | {"__init__"}) & set(sources)


def circle(graph):
    """A circle of imports, as a list of modules, or None."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_imports_have_no_circle():
    assert circle(import_graph(SOURCES)) is None


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("codes", "from skhash.base import BaseHasher"),
        ("codes", "import skhash._search"),
        # By way of the package, whose `__init__` imports the scorers.
        ("metrics._scorer", "from skhash import base"),
        ("_labels", "from skhash.metrics._closed_forms import METRICS"),
        ("deep.losses._base", "from skhash.deep.losses import get_loss"),
    ],
)
def test_a_planted_circle_is_found(module, line):
    planted = {**SOURCES, module: SOURCES[module] + "\n" + line}
    assert module in circle(import_graph(planted))


def test_imports_inside_functions_are_no_circle():
    planted = {**SOURCES, "codes": "def f():\n    from skhash.base import BaseHasher"}
    assert circle(import_graph(planted)) is None


@pytest.mark.parametrize("module", SOURCES)
def test_imports_keep_to_the_table(module):
    assert list(violations(module, SOURCES)) == []


def test_table_names_all_modules_and_no_other():
    patterns = [pattern for _, modules, _ in ROWS for pattern in modules]
    modules = {module for module in SOURCES if not module.endswith("__init__")}
    assert [module for module in sorted(modules) if not matches(module, patterns)] == []
    # A package is in the table by its modules, a module that is a package by its `__init__`.
    known = modules | {module.removesuffix(".__init__") for module in SOURCES}
    assert [p for p in patterns if not any(fnmatchcase(module, p) for module in known)] == []


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("codes", "from skhash import datasets", "imports datasets"),
        ("codes", "import skhash.neighbors", "imports neighbors.__init__"),
        ("codes", "def f():\n    from skhash.base import BaseHasher", "imports base"),
        ("deep.losses._base", "from skhash.deep import networks", "imports deep.networks"),
        ("deep.losses._base", "from skhash.codes import pack_codes", "imports codes"),
        ("deep.sampling", "from skhash.deep._inputs import x", "imports deep._inputs"),
        ("metrics._histogram", "from skhash.base import BaseHasher", "imports base"),
        ("_lsh", "from sklearn.base import _fit_context", "imports sklearn.base._fit_context"),
        ("_lsh", "import sklearn.utils._param_validation", "sklearn.utils._param_validation"),
        (
            "neighbors._hamming",
            "from skhash.metrics._ranking import x",
            "imports metrics._ranking",
        ),
        (
            "neighbors._hamming",
            "from skhash.metrics import ndcg_score",
            "imports metrics.__init__",
        ),
        ("base", "from skhash._lsh import LSHHasher", "imports _lsh"),
        ("base", "from skhash import LSHHasher", "imports __init__"),
        ("_lsh", "from skhash._itq import ITQHasher", "imports _itq"),
        ("_itq", "from skhash import _lsh", "imports _lsh"),
        ("deep._hasher", "from skhash._lsh import LSHHasher", "imports _lsh"),
        ("metrics._scorer", "from skhash import metrics", "imports metrics.__init__"),
        ("metrics.__init__", "from skhash._lsh import LSHHasher", "imports _lsh"),
        ("base", "import torch", "imports torch"),
        ("_lsh", "def f():\n    from torch import nn", "imports torch"),
        ("datasets", "import torchvision.io", "imports torchvision"),
        ("metrics._ranking", "def f():\n    import matplotlib.pyplot", "imports matplotlib"),
        ("metrics._plot._curve", "import matplotlib.pyplot", "imports matplotlib at its top"),
        ("metrics._ranking", "def f():\n    import faiss", "imports faiss"),
        ("_engines", "import faiss", "imports faiss at its top"),
        ("_engines", "try:\n    import faiss\nexcept ImportError:\n    pass", "faiss at its top"),
        ("deep.networks", "class A:\n    import timm", "imports timm at its top"),
        ("base", "from numpy import *", "imports numpy.*"),
        ("_lsh", "from skhash.codes import *", "imports skhash.codes.*"),
        ("base", "from . import codes", "relatively"),
        ("export._arrow", "import pyarrow", "imports pyarrow at its top"),
        ("export._postgres", "def f():\n    import pyarrow", "imports pyarrow"),
        ("_search", "from skhash.export._faiss import write_faiss", "imports export._faiss"),
    ],
)
def test_table_forbids(module, line, expected):
    (found,) = violations(module, {**SOURCES, module: line})
    assert found.startswith(module)
    assert found.endswith(expected)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("metrics._ranking", "from skhash.metrics._histogram import hamming_histogram"),
        ("_engines", "def f():\n    import faiss"),
        ("neighbors._hamming", "from skhash import codes"),
        ("_lsh", "import skhash.codes, skhash.base"),
        (
            "metrics._plot._curve",
            "class A:\n    def f(self):\n        import matplotlib.pyplot",
        ),
        ("_new", "from skhash.codes import pack_codes\nfrom skhash.base import BaseHasher"),
        ("deep._new", "import torch\nfrom skhash.deep.losses import ranking_loss"),
        ("deep.networks", "import torchvision\ndef f():\n    import timm"),
        ("__init__", "from skhash._lsh import LSHHasher"),
    ],
)
def test_table_allows(module, line):
    assert list(violations(module, {**SOURCES, module: line})) == []


@pytest.mark.parametrize("module", SOURCES)
def test_module_says_what_it_is(module):
    docstring = ast.get_docstring(ast.parse(SOURCES[module]))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("module", [name for name in SOURCES if "__all__" in SOURCES[name]])
def test_all_is_sorted(module):
    for node in ast.parse(SOURCES[module]).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            assert names == sorted(set(names))


def test_public_names(monkeypatch):
    # In place of the module that imports torch; that it is imported at all is what counts.
    deep = SimpleNamespace(DeepRankingHasher=object())
    monkeypatch.setitem(sys.modules, "skhash.deep._hasher", deep)
    assert skhash.DeepRankingHasher is deep.DeepRankingHasher
    assert skhash.__all__ == sorted(skhash.__all__)
    assert dir(skhash) == skhash.__all__
    assert all(hasattr(skhash, name) for name in skhash.__all__)
    with pytest.raises(AttributeError, match="module 'skhash' has no attribute 'PCAHasher'"):
        skhash.PCAHasher  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'PCAHasher'"):
        exec("from skhash import PCAHasher")


def run_python(code):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_takes_neither_torch_nor_matplotlib():
    late = ("torch", "torchvision", "timm", "matplotlib", "PIL", "faiss", "pandas", "pyarrow")
    modules = "codes", "datasets", "encode", "export", "metrics", "neighbors"
    shallow = "import skhash; " + "; ".join(f"skhash.{name}" for name in modules)
    # scikit-learn imports pandas where it is installed.
    given = "import sys, sklearn.utils; given = {*sys.modules}"
    printed = run_python(f"{given}\n{shallow}\nprint({{*{late}}} & {{*sys.modules}} - given)")
    assert printed.strip() == "set()"
