"""Tell what a file is: a model, a search, codes or a checkpoint of a training."""

import json
from pathlib import Path

import skhash
from skhash._cli._codes import file_kind, read_codes
from skhash._cli._talk import print_json

NAME = "info"
HELP = "what a model, a file of codes or a checkpoint is"
EXAMPLES = """\
  skhash info photos.model
  skhash info photos-codes
  skhash info checkpoints/training.ckpt --json
"""
# Labels and parameters that are shown; JSON has all.
_MOST = 8


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("file", metavar="FILE", help="file or folder")
    add("--bits", type=int, metavar="N", help="length of codes, where they are packed")
    add("--json", action="store_true", help="print JSON")


def run(args):
    """Run the command."""
    path = Path(args.file)
    if not path.exists():
        raise FileNotFoundError(2, "There is no such file", args.file)
    about = _about(path, args.bits)
    if args.json:
        print_json(about)
        return
    width = max(map(len, about))
    for name, value in about.items():
        print(f"{name.ljust(width)}  {_text(value)}")


def _about(path, n_bits):
    """Return what a file is, by name."""
    if path.is_dir() and (path / "training.ckpt").is_file():
        path = path / "training.ckpt"
    if (kind := file_kind(path)) == "checkpoint":
        return _about_checkpoint(path)
    if kind == "model":
        return _about_model(skhash.load(path), path)
    return _about_codes(read_codes(path, n_bits), path)


def _about_checkpoint(path):
    """Return what a checkpoint is."""
    from skhash.deep._checkpoint import Checkpoint

    with path.open("rb") as file:
        line = file.readline()
    try:
        identity = json.loads(line)["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of a training, or damaged.") from error
    state = Checkpoint(path.parent, identity).load()
    return {
        "kind": "checkpoint of a training",
        "bytes": path.stat().st_size,
        "epochs_done": len(state["history"]["loss"]),
        "last_loss": state["history"]["loss"][-1],
        "training": identity,
    }


def _about_model(model, path):
    """Return what a hasher or search is."""
    if isinstance(model, skhash.neighbors.HammingNeighbors):
        return {"kind": "search of codes"} | _about_codes(read_codes(path), path, kind=False)
    labels = model.classes_
    about = {
        "kind": "model",
        "hasher": type(model).__name__,
        "bytes": path.stat().st_size,
        "n_bits": len(model.get_feature_names_out()),
        "input": "images" if hasattr(model, "image_size_") else "feature rows",
    }
    if hasattr(model, "image_size_"):
        about["image_size"] = list(model.image_size_)
    elif hasattr(model, "n_features_in_"):
        about["n_features"] = int(model.n_features_in_)
    return about | {
        "n_database": len(model.database_codes_),
        "has_ids": model.database_ids_ is not None,
        "labels": None if labels is None else list(map(str, labels)),
        "params": {name: _plain(value) for name, value in _changed(model).items()},
    }


def _changed(model):
    """Return the parameters that are not the defaults."""
    default = type(model)().get_params(deep=False)
    params = model.get_params(deep=False)
    return {name: value for name, value in params.items() if str(value) != str(default[name])}


def _plain(value):
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _about_codes(items, path, *, kind=True):
    """Return what codes are."""
    about = {"kind": "codes"} if kind else {}
    return about | {
        "n_bits": items.n_bits,
        "n_items": len(items),
        "ids": None if items.ids is None else [_id(key) for key in items.ids[:3]],
        "bytes": sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        if path.is_dir()
        else path.stat().st_size,
    }


def _id(key):
    return key.item() if hasattr(key, "item") else key


def _text(value):
    """Return a value as a line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "all defaults"
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:_MOST]))
        return shown + (f", ... ({len(value)})" if len(value) > _MOST else "")
    return f"{value:,}" if isinstance(value, int) else str(value)
