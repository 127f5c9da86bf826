"""Hashers of the comparisons, by name. Their hyper-parameters are constants of this file."""

import inspect
from functools import partial
from typing import ClassVar

import numpy as np

from skhash import (
    BREHasher,
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    MLHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash._cli._codes import find_hasher
from skhash.deep.losses import NestedLoss, RankingLoss, SampledRankingLoss, TieAwareNDCGLoss


class RandomOrder:
    """Give all samples one code, so that the exact expectation is over a random order."""

    def __init__(self, n_bits):
        self.n_bits = n_bits

    def fit(self, X, Y):  # noqa: ARG002
        """Keep a database of equal codes."""
        self.database_codes_ = np.zeros((len(X), -(-self.n_bits // 8)), np.uint8)
        return self

    def transform(self, X):
        """Return equal codes."""
        return np.zeros((len(X), self.n_bits), np.uint8)


class Nested:
    """Make a hasher of 48 bits of which the first 16 and 32 are codes too, and shorten it."""

    # By seed: all lengths are of one training.
    trained: ClassVar[dict] = {}

    def __init__(self, n_bits, random_state):
        self.n_bits, self.random_state = n_bits, random_state

    def fit(self, X, Y):
        """Train 48 bits, unless that was done for another length, and keep the first ones."""
        if self.random_state not in self.trained:
            loss = NestedLoss(TieAwareNDCGLoss(), lengths=(16, 32, 48))
            whole = DeepRankingHasher(48, loss=loss, random_state=self.random_state).fit(X, Y)
            self.trained[self.random_state] = whole
        self.hasher = self.trained[self.random_state].shorten(self.n_bits)
        self.database_codes_ = self.hasher.database_codes_
        self.transform, self.encode_database = self.hasher.transform, self.hasher.encode_database
        return self


# A method is what makes the hasher, and which view of the data it is given.
SHALLOW = {
    "random order": (lambda n_bits, random_state: RandomOrder(n_bits), "features"),  # noqa: ARG005
    "LSH": (LSHHasher, "features"),
    "Spectral": (lambda n_bits, random_state: SpectralHasher(n_bits), "features"),  # noqa: ARG005
    "ITQ": (ITQHasher, "features"),
    "CCA-ITQ": (partial(CCAITQHasher, reg=0.03), "features"),
    "KSH": (partial(KSHHasher, similarity="graded"), "features"),
    "SDH": (SDHHasher, "features"),
    "BRE": (BREHasher, "features"),
    "MLH": (MLHHasher, "features"),
    "HDML": (HDMLHasher, "features"),
}
# On scenes of digits these stop early for speed; on held-out training scenes no NDCG@100 moves
# by .01.
QUICK = {
    "KSH": (partial(KSHHasher, similarity="graded", max_iter=50), "features"),
    "MLH": (partial(MLHHasher, max_epochs=20), "features"),
    "HDML": (partial(HDMLHasher, max_epochs=50), "features"),
}
# A small convolutional network for scenes of digits.
CONVNET = {"network": "convnet", "flip": False, "max_epochs": 12, "batch_size": 64}
DIGITS = partial(DeepRankingHasher, **CONVNET, learning_rate=3e-3)
# Of 3e-5, 1e-4, 3e-4, 1e-3 and 3e-3 the best on held-out training scenes.
DIGITS_PAPER = {"image_size": "auto", "learning_rate": 1e-4, "backbone_learning_rate": 1e-4}


def feature_methods():
    """Return methods that take feature rows."""
    # What ranks its own training set best: nothing keeps it from learning that by heart.
    memorising = partial(
        DeepRankingHasher,
        loss=TieAwareNDCGLoss(straight_through=0),
        taps="both",
        input_dropout=0,
        hidden_size=1024,
        n_heads=1,
        max_epochs=20,
    )
    # All labels instead of 2,000, and more anchors than 300: at 2,000 training images of held-out
    # parts .006 better; SDH is better with its 1,000 anchors than with 2,000.
    more = partial(KSHHasher, similarity="graded", n_anchors=1000, n_labeled=20_000)
    return SHALLOW | {
        "KSH, all labels": (more, "features"),
        "Deep, features": (DeepRankingHasher, "features"),
        "Deep, nested": (Nested, "features"),
        "Deep, memorising": (memorising, "features"),
    }


def photograph_methods():
    """Return these, and fine-tuning of the network that features are of."""
    from _efficientnet import PIXELS, SIDE, mirrored_efficientnet_lite0

    finetuned = partial(
        DeepRankingHasher,
        network=mirrored_efficientnet_lite0,
        normalization=PIXELS,
        image_size=SIDE,
        loss="tie_aware_ndcg",
        head_epochs=20,
        max_epochs=2,
        backbone_learning_rate=1e-4,
    )
    return feature_methods() | {"Deep, fine-tuned": (finetuned, "images")}


# The rate, of 3e-4, 1e-3 and 3e-3, at which a loss does best on held-out images.
LOSS_RATES = {
    "ranking": 1e-3,
    "tie_aware_average_precision": 1e-3,
    "dsrh": 1e-3,
    "dpsh": 1e-3,
    "hashnet": 1e-3,
    "idhn": 3e-3,
    "dtsh": 1e-3,
    "csq": 3e-3,
    "orthohash": 3e-3,
    "hyp2": 3e-4,
}
# On features both layers before the codes start at random. At the paper's rates, which are
# for pretrained ones, training diverges; of 1e-4, 3e-5 and 1e-5 this is the best.
PAPER = {
    "network": "mlp",
    "max_epochs": 10,
    "learning_rate": 3e-5,
    "backbone_learning_rate": 3e-5,
}


def loss_methods():
    """Return losses and ablations of the deep hasher, on features."""
    deep = DeepRankingHasher
    hashers = {
        "paper": partial(deep.from_paper, **PAPER),
        "default": deep,
        "default, no dropout": partial(deep, input_dropout=0),
        "default, both layers": partial(deep, taps="both"),
        "default, no signs": partial(deep, loss=TieAwareNDCGLoss(straight_through=0)),
        "default, list of 2,000": partial(deep, loss=TieAwareNDCGLoss(list_size=2000)),
        "ranking, uniform": partial(deep, loss=RankingLoss(weighting="uniform")),
        "ranking, balance=0": partial(deep, loss=RankingLoss(balance=0)),
        "ranking, balanced labels": partial(deep, loss=RankingLoss(class_weight="balanced")),
        "ranking, list of 2,000": partial(deep, loss=RankingLoss(list_size=2000)),
    }
    hashers |= {
        name: partial(deep, loss=name, learning_rate=rate) for name, rate in LOSS_RATES.items()
    }
    return {name: (make, "features") for name, make in hashers.items()}


def methods_for(kind):
    """Return the methods of `compare.py` for data of a kind."""
    made = {
        "digits": lambda: SHALLOW | QUICK | {"Deep": (DIGITS, "images")},
        "photographs": photograph_methods,
        "features": feature_methods,
        "losses": loss_methods,
    }
    return made[kind]()


# What `paper.py` compares, and variants of the last two: whose they are, and what differs.
DSRH, DEEP = "DSRH (paper)", "Deep"
PAPER_METHODS = ["random order", "LSH", "ITQ", "CCA-ITQ", "KSH", "SDH", DSRH, DEEP]
UNIFORM = SampledRankingLoss(margin="auto", balance=1.0, n_repeats=3000, weighting="uniform")
ABLATIONS = {
    "DSRH, FCa alone": (DSRH, {"taps": "fca", "dropout": 0.0}),
    "DSRH, FCb alone": (DSRH, {"taps": "fcb"}),
    "DSRH, uniform weights": (DSRH, {"loss": UNIFORM}),
    "Deep, FCa and FCb": (DEEP, {"taps": "both"}),
    "Deep, signs": (DEEP, {"encoding": "signs"}),
}


def paper_methods(kind):
    """Return the methods and ablations of `paper.py` for data of a kind."""
    on_digits = kind == "digits"
    paper = CONVNET | DIGITS_PAPER if on_digits else PAPER
    view = "images" if on_digits else "features"
    makers = {
        DSRH: partial(DeepRankingHasher.from_paper, **paper),
        DEEP: DIGITS if on_digits else DeepRankingHasher,
    }
    found = SHALLOW | (QUICK if on_digits else {})
    found |= {name: (make, view) for name, make in makers.items()}
    methods = {name: found[name] for name in PAPER_METHODS}
    return methods | {
        name: (partial(makers[whose], **changes), view)
        for name, (whose, changes) in ABLATIONS.items()
    }


def own_method(text, n_bits):
    """Return the name and the method of a hasher of another module: ``[name=]module:Class``."""
    name, equals, place = text.partition("=")
    kind = find_hasher(place if equals else text)
    make = partial(_make, kind)
    # A class that cannot be made is told of before anything runs.
    make(n_bits=n_bits, random_state=0)
    return (name if equals else kind.__name__), (make, "features")


def _make(kind, **params):
    """Return a hasher with those of the parameters that it has."""
    known = inspect.signature(kind).parameters
    return kind(**{name: value for name, value in params.items() if name in known})
