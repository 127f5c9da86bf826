"""Train a hasher on a folder of images, or on feature rows, and save it.

Labels of images are those of a CSV file, whose first column is the file, relative to the folder;
the others are a label each, of 0 and 1, or there is one column of names, of which several are
separated by ";" or "|". Without a CSV file the label of an image is its sub-folder.

A part of the samples is held out. In the end these are searched for among those trained on, and
NDCG@100 says how well that goes. The model keeps the codes of those trained on.
"""

import ast
from argparse import ArgumentTypeError

import numpy as np

import skhash
from skhash._cli._codes import check_params, find_hasher
from skhash._cli._files import read_features
from skhash._cli._labels import read_labelled_images, read_labels
from skhash._cli._talk import print_json, say
from skhash._io import check_folder

NAME = "train"
HELP = "train a hasher on images or feature rows"
EXAMPLES = """\
  skhash train --images photos --labels labels.csv --bits 48 --out photos.model
  skhash train --images photos --network timm:resnet50 --weights pretrained \\
      --image-size 224 --param head_epochs=10 --epochs 3 --out photos.model
  skhash train --features X.npy --labels Y.npy --hasher itq --bits 32 --out itq.model
  skhash train --features X.npy --labels Y.npy --hasher mine:PCAHasher --out m.model
"""
# Pixels to which files are resized: as much as the network for small images takes, and what
# others were made for.
_SMALL, _LARGE = 64, 224
_K = 100


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="DIR", help="folder of images, also in sub-folders")
    source.add_argument("--features", metavar="X.npy", help="feature rows, for any hasher")
    add("--labels", metavar="FILE", help="CSV, .npy or Parquet; without: sub-folders are labels")
    add("--out", metavar="MODEL", required=True, help="file to write")
    add("--bits", metavar="N", type=int, help="length of the codes (default: that of the hasher)")
    add("--hasher", metavar="NAME", default="deep", help="itq, ksh, ... or package.module:Class")
    add(
        "--hold-out",
        metavar="PART",
        type=_part,
        default=0.1,
        help="held out (default .1; 0: none)",
    )
    add("--seed", metavar="N", type=int, default=0, help="decides all that is random (default 0)")
    add("--on-error", choices=["raise", "skip"], default="raise", help="of damaged images (raise)")
    add("--epochs", metavar="N", type=int, help="epochs of a network")
    add("--network", metavar="NAME", help="alexnet, convnet, mlp or timm:NAME")
    add("--weights", metavar="NAME", help="pretrained weights: a file, or 'pretrained'")
    add("--image-size", metavar="N", type=int, help="pixels to which images are resized")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add("--checkpoint", metavar="DIR", help="folder from which the same command goes on if killed")
    add(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_param,
        help="any other parameter of the hasher, again and again",
    )


def _part(text):
    """Return a share of the samples."""
    try:
        part = float(text)
    except ValueError:
        part = -1.0
    if not 0 <= part < 1:
        raise ArgumentTypeError(f"it should be a number from 0 to below 1, got {text!r}")
    return part


def _param(text):
    """Return the name and value of a parameter."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"it should be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def run(args):
    """Run the command."""
    check_folder(args.out)
    kind = find_hasher(args.hasher)
    X, y, ids = _images(args) if args.images else _features(args)
    hasher = kind(**_params(args, kind))
    train, query = _split(len(X), args.hold_out if y is not None else 0, args.seed)
    say(f"training on {len(train)} samples with {type(hasher).__name__}")
    hasher.fit(X[train], None if y is None else y[train])
    if ids is not None:
        hasher.set_database_codes(
            hasher.database_codes_, None if y is None else y[train], ids=ids[train]
        )
    hasher.save(args.out)
    say(f"wrote {args.out}")
    report = {
        "model": str(args.out),
        "hasher": type(hasher).__name__,
        "n_bits": len(hasher.get_feature_names_out()),
        "n_trained_on": len(train),
        "n_held_out": len(query),
    }
    print_json(report | (_score(hasher, X[query], y[query]) if len(query) else {}))


def _images(args):
    """Return paths, labels and ids of the images that have labels."""
    found = read_labelled_images(args.images, args.labels)
    if found.n_unlabelled:
        say(f"{found.n_unlabelled} of {found.n_found} images have no labels, and are left out")
    paths = found.paths
    rows = _readable(paths) if args.on_error == "skip" else np.arange(len(paths))
    X = np.array(list(map(str, paths)), dtype=object)
    return X[rows], found.y[rows], np.array(found.keys)[rows]


def _readable(paths):
    """Return the rows of files that are images, and tell of the others."""
    faults = skhash.utils.find_unreadable_images(paths)
    for row, fault in faults.items():
        say(f"skipped {paths[row]}, which {fault}")
    return np.setdiff1d(np.arange(len(paths)), [*faults])


def _features(args):
    """Return rows and their labels."""
    X, _ = read_features(args.features)
    y = None if args.labels is None else read_labels(args.labels).of(None, len(X))
    return X, y, None


def _params(args, kind):
    """Return the parameters of the hasher that were asked for."""
    given = {
        "n_bits": args.bits,
        "max_epochs": args.epochs,
        "network": args.network,
        "weights": args.weights,
        "image_size": args.image_size,
        "device": args.device,
        "checkpoint_dir": args.checkpoint,
    }
    given = {name: value for name, value in given.items() if value is not None}
    given |= dict(args.param)
    check_params(kind, given)
    params = {"random_state": args.seed, "verbose": not args.quiet} | given
    known = kind._get_param_names()
    if args.images and "image_size" not in known:
        raise ValueError(f"{kind.__name__} takes feature rows: give them with --features.")
    if args.images:
        params = _image_params() | params if "network" not in params else _sized(params)
    return {name: value for name, value in params.items() if name in known}


def _image_params():
    """Return network and size of images where no network is asked for."""
    say(
        f"no --network: a small one at {_SMALL} pixels, from random weights. A pretrained "
        "one gives far better codes: --network timm:resnet50 --weights pretrained"
    )
    return {"network": "convnet", "image_size": _SMALL}


def _sized(params):
    """Return parameters with the size of images that the network is made for."""
    size = _SMALL if params["network"] == "convnet" else _LARGE
    return {"image_size": size} | params


def _split(n_samples, part, seed):
    """Return rows to train on, and rows that are held out."""
    if not part:
        return np.arange(n_samples), np.arange(0)
    split = skhash.datasets.retrieval_split(n_samples, n_queries=part, random_state=seed)
    return split.train, split.query


def _score(hasher, X, y):
    """Return NDCG@100 of queries over the database, and how sure it is."""
    pack = skhash.codes.pack_codes
    codes = hasher.transform(X)
    histogram = skhash.metrics.HammingHistogram.from_packed(
        pack(codes),
        pack(hasher.encode_labels(y)),
        *hasher.labeled_database(),
        n_bits=codes.shape[1],
    )
    values = histogram.ndcg(k=_K)
    report = {f"ndcg@{_K}": float(values.mean())}
    text = f"NDCG@{_K} of {len(values)} samples that were not trained on: {values.mean():.3f}"
    if len(values) > 1:
        ends = skhash.metrics.bootstrap_interval(values, random_state=0)
        report["interval"] = [float(end) for end in ends]
        text += f", 95 % interval {ends[0]:.3f} to {ends[1]:.3f}"
    say(text)
    return report
