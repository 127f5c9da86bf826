"""DeepRankingHasher: parameters, and the fit loop in small verbs."""

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.callback import CallbackSupportMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted
from torchvision.transforms.v2 import functional as transforms

from skhash._sklearn import Interval, StrOptions
from skhash._version import __version__
from skhash.base import BaseHasher, PartialFitMixin
from skhash.codes import pack_codes
from skhash.deep._checkpoint import Checkpoint, described, digest
from skhash.deep._devices import has_bfloat16, on_cpu, resolve_device
from skhash.deep._inputs import FeatureRows, ImageArray, ImageFiles, input_kind, prefetched
from skhash.deep._onnx import export
from skhash.deep._training import (
    BestWeights,
    PaperSGD,
    freeze_batch_norm,
    halfway_tenth,
    seeded,
    warm_cosine,
)
from skhash.deep.losses import SAVED_LOSSES, RankingLoss, SampledRankingLoss, get_loss
from skhash.deep.networks import build_network, default_image_size
from skhash.deep.sampling import epoch_batches, held_out_rows
from skhash.metrics._problem import RetrievalProblem
from skhash.metrics._ranking import score_queries

# Rows of features projected at once; images take `batch_size`.
_PROJECT_ROWS = 4096

# Parameters in which a training may differ from the checkpoint that it goes on from.
_NOT_OF_TRAINING = {"checkpoint_dir", "n_neighbors", "verbose"}


class DeepRankingHasher(CallbackSupportMixin, PartialFitMixin, BaseHasher):
    r"""Deep semantic ranking based hashing (DSRH), and the losses of other papers.

    A network with a hash layer on two fully connected layers is trained so that, for each image
    as a query, images that share more labels with it are nearer in Hamming distance. The
    default loss is the listwise surrogate of NDCG

    .. math::

        \sum_{i, j:\, r_i > r_j} \frac{2^{r_i} - 2^{r_j}}{Z} \,
        \max(0, \text{margin} + d_i - d_j) \; + \; \frac{\alpha}{2} \|\bar h\|^2,

    averaged over queries and divided by the length of the list, where :math:`r` is the number of
    shared labels, :math:`h = 2 \sigma(t) - 1` the relaxed code of the projection :math:`t`,
    :math:`d = (n_\text{bits} - h_q \cdot h_x) / 2` the relaxed Hamming distance, :math:`Z` the
    ideal DCG of the list and :math:`\bar h` the mean over the batch. Every image of a batch is a
    query, its list is the rest of the batch, and all pairs of the list count: the sum is exact,
    by sorting (:func:`skhash.deep.losses.ranking_loss`). Other losses train the same network in
    the same way.

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes.

    network : {"auto", "alexnet", "convnet", "mlp"}, str "timm:NAME" or callable, default="auto"
        "alexnet" is torchvision's, with the hash head on its fully connected layers; "convnet" a
        small network for images of 8 to 64 pixels; "mlp" the head alone, for feature rows. With
        timm installed, "timm:NAME" takes any of its models as the backbone. A callable takes no
        argument and returns a new :class:`torch.nn.Module` that maps a batch of images (or rows)
        to features. "auto" is "mlp" for feature rows, "convnet" for images of at most 64 pixels,
        and "alexnet" else.

    weights : str, path-like or None, default=None
        Pretrained weights of the network: the file of a state dict (read without running code),
        for "alexnet" also a name of :class:`torchvision.models.AlexNet_Weights` such as
        "IMAGENET1K_V1", for timm also "pretrained". None starts from random weights.

    hidden_size : int or "auto", default="auto"
        Units of each of the two fully connected layers: 4096 for "alexnet", 512 for "convnet",
        else 1024.

    dropout : float, default=0.0
        Probability of dropout at the fully connected layers; 0.5 in the paper.

    taps : {"both", "fca", "fcb"}, default="both"
        Which of the two fully connected layers the hash layer reads.

    image_size : int, tuple (height, width) or "auto", default="auto"
        Whole images are resized to it, never cropped. "auto" is 224 for "alexnet", and else the
        size of the images, which image files do not have: give it for those.

    normalization : tuple (mean, std) or "auto", default="auto"
        What is subtracted from pixels (0 to 255), and divided by: numbers, or one a channel.
        "auto" is what the network was pretrained with, else 127.5 and 127.5.

    flip : bool, default=True
        Whether to mirror training images left to right at random.

    loss : str or object, default="ranking"
        What is minimised: "ranking" as above, another name of :data:`skhash.deep.losses.LOSSES`
        for a loss with its own defaults, or an object such as
        ``skhash.deep.losses.RankingLoss(list_size=5000)``. The user guide lists them, and shows
        how to add one. On feature rows "tie_aware_ndcg" is better than "ranking", but far slower
        to learn from random weights.

    margin : float or "auto", default="auto"
        By how many bits a more relevant image is to be nearer. "auto" is 5 at 64 bits, in
        proportion at others. Only for ``loss="ranking"``: other losses have their own parameters.

    weighting : {"ndcg", "uniform"}, default="ndcg"
        Weights of the pairs: by their effect on NDCG, as above, or all 1. Only for
        ``loss="ranking"``.

    balance : float, default=0.1
        :math:`\alpha`, the penalty on bits that are not balanced over a batch. (The paper's is 1,
        beside a loss that is summed where this one is averaged.) Only for ``loss="ranking"``.

    class_weight : {"balanced"}, default=None
        "balanced" weighs queries so that those of rare labels count as much as those of frequent
        ones, see :class:`skhash.deep.losses.RankingLoss`. Only for ``loss="ranking"``.

    head_epochs : int, default=0
        Epochs at the start in which the backbone is frozen and only the head is trained. The
        features of the frozen backbone are computed once, without flips, and held in memory.

    max_epochs : int, default=20
        Epochs in which all of the network is trained.

    batch_size : int, default=128
        Most samples in a batch; the list of a query is as long, less one, unless the loss has a
        `list_size`.

    optimizer : {"adamw", "sgd"}, default="adamw"
        "adamw" is Adam with decoupled weight decay, whose rate rises linearly over the first
        steps and falls to zero along a cosine. "sgd" is the solver of the paper: momentum 0.9,
        rates divided by 10 after half of the steps, biases at twice the rate of weights and
        without decay, and the hash layer at `learning_rate` where it reads FCb, at a quarter of
        it where it reads FCa.

    learning_rate : float, default=1e-3
        Peak rate for the head (with "sgd" for its hash layer) and for what the loss learns, such
        as proxies.

    backbone_learning_rate : float or "auto", default="auto"
        Peak rate for the backbone; with "sgd" for FCa and FCb too. "auto" is `learning_rate`, and
        a tenth of it with "sgd". With "adamw" and `head_epochs`, the already trained head, and
        what the loss learns, take it while all of the network is trained.

    weight_decay : float, default=5e-4
        Weight decay.

    accumulation : int, default=1
        Number of batches whose mean gradient makes one step. Lists and pairs remain those of each
        batch: for a loss that compares samples this is not the same as a larger batch.

    early_stopping : bool, default=False
        Whether to hold out a part of the training samples, and after each epoch score them as
        queries over the others, by `NDCG@100`. Each of the two stages of training ends when the
        score no longer improves, and goes back to the weights of its best epoch. The score takes
        a pass over the whole training set. The database is the whole training set in the end.

    validation_fraction : float, default=0.1
        Fraction of the training samples that is held out.

    n_iter_no_change : int, default=5
        Epochs without an improvement after which to stop.

    tol : float, default=1e-4
        By how much the score has to rise to count as an improvement.

    warm_start : bool, default=False
        Whether `fit` goes on from the network of the last call, if there was one, with a new
        schedule, solver and loss.

    compile : bool, default=False
        Whether to train through :func:`torch.compile`, which takes a while at the start, rounds
        differently and drops out other units. `transform` does not.

    checkpoint_dir : str, path-like or None, default=None
        Directory in which `fit` keeps a checkpoint, the state of the training after each epoch.
        Killed at any moment and started again, with the same parameters and data, it gives the
        codes of an undisturbed training, on the same machine bit for bit. A checkpoint of another
        training, or a damaged one, is an error; trainings are told apart by parameters (functions
        by their names), versions, label sets and 256 of the samples. It stays after the end, so
        that `fit` called again has no epoch left to train; a directory is for one training. Needs
        an int as `random_state`.

    device : str, default="auto"
        "auto" is CUDA, else MPS, else the CPU; or a device name of torch such as "cuda:1".

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "bfloat16" runs the network under automatic mixed precision; "auto" does so for images
        where the device has arithmetic for it. Loss and parameters stay float32.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    verbose : bool, default=False
        Whether to print the loss of each epoch.

    random_state : int, RandomState instance or None, default=None
        Decides initial weights, batches, flips, dropout, and what the loss draws at random. The
        global generators of torch are left as they were. On one machine the same seed gives the
        same codes (on a GPU up to the determinism of its kernels).

    Attributes
    ----------
    network_ : skhash.deep.networks.HashNetwork
        The trained network, in evaluation mode.

    history_ : dict of lists
        For each epoch the mean "loss", the largest "learning_rate" at its start, its "seconds" of
        training, and, with `early_stopping`, its "validation_score".

    loss_curve_ : list of float
        Mean training loss of each epoch, ``history_["loss"]``.

    n_iter_ : int
        Number of epochs, also those after the best one.

    image_size_ : tuple (height, width)
        Size to which images are resized; only for images.

    database_codes_ : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the database: the training set, or what `set_database` was given.

    database_labels_ : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8
        Packed label sets of the database.

    classes_ : ndarray of shape (n_labels,)
        Labels, see :class:`skhash.base.BaseHasher`.

    n_features_in_ : int
        Number of features seen in `fit`; only for feature rows.

    Notes
    -----
    `X` may be feature rows (n_samples, n_features); images (n_samples, height, width, 3) or
    (n_samples, 3, height, width) of dtype uint8, in memory or memory-mapped; or a sequence of
    paths of image files. Only a few batches of a mapped array or of files are held at a time.

    Losses that compare samples need at least one pair of training samples that shares a label;
    centres and proxies of labels do not.

    :meth:`from_paper` makes a hasher that follows the paper's procedure.

    References
    ----------
    F. Zhao, Y. Huang, L. Wang, T. Tan, "Deep semantic ranking based hashing for multi-label image
    retrieval", CVPR 2015, https://arxiv.org/abs/1501.06272.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import DeepRankingHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = DeepRankingHasher(n_bits=16, hidden_size=256, max_epochs=5, random_state=0)
    >>> hasher = hasher.fit(X[200:], y[200:])
    >>> hasher.transform(X[:200]).shape
    (200, 16)
    >>> hasher.score(X[:200], y[:200]) > 0.65
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "network": [str, callable],
        "weights": [str, os.PathLike, None],
        "hidden_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "taps": [StrOptions({"both", "fca", "fcb"})],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, StrOptions({"auto"})],
        "normalization": [tuple, StrOptions({"auto"})],
        "flip": ["boolean"],
        # Validated by `get_loss`.
        "loss": "no_validation",
        "margin": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "weighting": [StrOptions({"ndcg", "uniform"})],
        "balance": [Interval(Real, 0, None, closed="left")],
        "class_weight": [StrOptions({"balanced"}), None],
        "head_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "optimizer": [StrOptions({"adamw", "sgd"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "backbone_learning_rate": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"auto"}),
        ],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "accumulation": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "compile": ["boolean"],
        "checkpoint_dir": [str, os.PathLike, None],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _supervised = True

    def __init__(
        self,
        n_bits=32,
        *,
        network="auto",
        weights=None,
        hidden_size="auto",
        dropout=0.0,
        taps="both",
        image_size="auto",
        normalization="auto",
        flip=True,
        loss="ranking",
        margin="auto",
        weighting="ndcg",
        balance=0.1,
        class_weight=None,
        head_epochs=0,
        max_epochs=20,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        backbone_learning_rate="auto",
        weight_decay=5e-4,
        accumulation=1,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        tol=1e-4,
        warm_start=False,
        compile=False,  # noqa: A002
        checkpoint_dir=None,
        device="auto",
        precision="auto",
        n_neighbors=5,
        verbose=False,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.network = network
        self.weights = weights
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.taps = taps
        self.image_size = image_size
        self.normalization = normalization
        self.flip = flip
        self.loss = loss
        self.margin = margin
        self.weighting = weighting
        self.balance = balance
        self.class_weight = class_weight
        self.head_epochs = head_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.backbone_learning_rate = backbone_learning_rate
        self.weight_decay = weight_decay
        self.accumulation = accumulation
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.compile = compile
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.precision = precision
        self.n_neighbors = n_neighbors
        self.verbose = verbose
        self.random_state = random_state

    @classmethod
    def from_paper(cls, n_bits=64, **overrides):
        """Make a hasher that is trained as the authors of DSRH train theirs.

        AlexNet, whose weights are to be given, a hash layer on both fully connected layers,
        dropout 0.5, whole images of 224 pixels, mirrored at random; the loss on lists of three
        items, queries of rare labels weighing more, summed over a batch of 128; margin 5 at 64
        bits, balance 1, weight decay 5e-4; SGD with a rate for each kind of layer and a tenth of
        it in the second half. The user guide says what differs from the defaults, and from the
        authors' code.

        Parameters
        ----------
        n_bits : int, default=64
            Length of the codes.

        **overrides
            Other parameters of the hasher, such as `weights` and `max_epochs`, or those of the
            procedure that are to differ.

        Returns
        -------
        hasher : DeepRankingHasher
            Not fitted.

        Examples
        --------
        >>> from skhash import DeepRankingHasher
        >>> DeepRankingHasher.from_paper(48, weights="IMAGENET1K_V1").optimizer
        'sgd'
        """
        procedure = {
            "network": "alexnet",
            "dropout": 0.5,
            "taps": "both",
            "image_size": 224,
            "flip": True,
            "loss": SampledRankingLoss(margin="auto", balance=1.0, n_repeats=3000),
            "head_epochs": 0,
            "batch_size": 128,
            "optimizer": "sgd",
            "learning_rate": 1e-3,
            "backbone_learning_rate": 1e-4,
            "weight_decay": 5e-4,
        }
        return cls(n_bits, **(procedure | overrides))

    def _validate_X(self, X, *, reset):
        kind = input_kind(X)
        if reset:
            self._input_kind = kind
        elif (kind == "features") != (self._input_kind == "features"):
            raise ValueError(f"X should be {self._input_kind}, as in fit, got {kind}.")
        if kind == "features":
            return FeatureRows(super()._validate_X(X, reset=reset))
        size = self._asked_image_size() if reset else self.image_size_
        source = (ImageFiles if kind == "files" else ImageArray)(X, size)
        _check_minimum(len(source), 1 + reset, self)
        if reset:
            self.image_size_ = self._final_image_size(source)
        return source

    def _asked_image_size(self):
        """Return (height, width) where `image_size` says it, else None."""
        if self.image_size == "auto":
            return None
        if isinstance(self.image_size, Integral):
            return (self.image_size, self.image_size)
        if len(self.image_size) != 2 or not all(
            isinstance(side, Integral) and side > 0 for side in self.image_size
        ):
            raise ValueError(
                "image_size should be an int or a tuple (height, width) of ints above 0, "
                f"got {self.image_size!r}."
            )
        return tuple(self.image_size)

    def _final_image_size(self, source):
        """Settle the size of all images to come on the first ones, and tell their source."""
        if self.image_size == "auto":
            network = self._network_for(source)
            source.size = default_image_size(network) or source.native_size
        if source.size is None:
            raise ValueError(
                f"image_size should be given for image files with network={self.network!r}, "
                "which has no size of its own; got 'auto'."
            )
        return tuple(source.size)

    def _network_for(self, source):
        """Return `network`, "auto" replaced by the choice for such input."""
        if self._input_kind == "features":
            return self._settled_network(None)
        return self._settled_network(
            source.native_size if self.image_size == "auto" else source.size
        )

    def _settled_network(self, image_size):
        """Return `network`, "auto" replaced by the choice for images of that size, or rows."""
        if self.network != "auto":
            return self.network
        if self._input_kind == "features":
            return "mlp"
        return "convnet" if image_size is not None and max(image_size) <= 64 else "alexnet"

    def _before_fit(self):
        self._init_callback_context(max_subtasks=self.head_epochs + self.max_epochs)

    def _fit_once(self, X, y):
        self._start_from = getattr(self, "network_", None) if self.warm_start else None
        # What was learnt in parts ends here.
        vars(self).pop("_partial", None)
        super()._fit_once(X, y)
        self._callback_fit_ctx.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=dict
        )

    def _fit(self, X, Y):
        run = self._make_run(X, Y)
        run.callbacks = self._callback_fit_ctx.call_on_fit_task_begin(
            estimator=self, X=run.given_X, y=run.given_Y
        )
        with seeded(run.seed, run.device) as run.generators:
            self._build(X, run.device, run.start_from)
            run.loss = self._start_loss(Y[run.rows], run.device)
            if self.head_epochs and not run.is_past(0):
                self._train(self._head_stage(X, standardize=run.start_from is None), run)
            if self.max_epochs:
                self._train(self._full_stage(X, offset=self.head_epochs), run)
        self.network_.eval()
        self.n_iter_ = len(self.loss_curve_)

    def _make_run(self, X, Y):
        """Settle what is to be known before the first weights are drawn, or raise."""
        self._start_history(validated=self.early_stopping)
        run = _Run(X, Y, resolve_device(self.device), self._draw_seed(), np.arange(len(X)))
        if self.early_stopping:
            fraction = self.validation_fraction
            run.rows, run.held_out = held_out_rows(len(X), fraction, seed=run.seed)
        self._check_learnable(Y[run.rows])
        run.start_from = vars(self).pop("_start_from")
        run.given_X = X.given
        run.given_Y = self.classes_[Y.argmax(axis=1)] if self._one_class_each else Y
        if self.checkpoint_dir is not None:
            run.checkpoint = self._open_checkpoint(run)
            run.resumed = run.checkpoint.load()
        return run

    def _open_checkpoint(self, run):
        """Return the checkpoint of this training, or raise if it could not be taken up."""
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                "random_state should be an int with checkpoint_dir, so that training which is "
                f"started again is the same training; got {self.random_state!r}."
            )
        if self.warm_start:
            raise ValueError(
                "checkpoint_dir does not go with warm_start=True: training which is started again "
                "would not know the network that it went on from."
            )
        params = self.get_params(deep=False)
        identity = {name: described(params[name]) for name in params.keys() - _NOT_OF_TRAINING}
        identity["X"], identity["Y"] = digest(run.X, run.Y)
        identity |= {"device": run.device.type, "the version of torch": torch.__version__}
        identity["the version of skhash"] = __version__
        return Checkpoint(self.checkpoint_dir, identity)

    def _draw_seed(self):
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _start_history(self, *, validated):
        """Make empty lists, to which each epoch appends."""
        names = ("loss", "learning_rate", "seconds") + validated * ("validation_score",)
        self.history_ = {name: [] for name in names}
        self.loss_curve_ = self.history_["loss"]

    def _has_parts(self):
        return hasattr(self, "network_")

    def _learn_part(self, X, Y, first):
        """Train one epoch; solver and loss go on from the last call, if there was one."""
        _check_minimum(len(X), 2, self)
        if not first:
            self._check_n_bits()
        # Copies: an error is to leave what the last call left.
        state = copy.deepcopy(getattr(self, "_partial", None))
        state = state or {"seed": self._draw_seed(), "n_calls": 0, "loss": None}
        run = _Run(X, Y, resolve_device(self.device), state["seed"], np.arange(len(X)))
        with seeded([run.seed, state["n_calls"]], run.device):
            if first:
                self._start_history(validated=False)
                self._build(X, run.device)
            self.history_, self.network_ = copy.deepcopy((self.history_, self.network_))
            self.loss_curve_ = self.history_["loss"]
            self.network_.to(run.device)
            run.loss = state["loss"]
            if run.loss is None:
                run.loss = self._start_loss(Y, run.device)
            # What one solver keeps of its steps means nothing to another.
            solver = state.get("solver", {}) if state.get("optimizer") == self.optimizer else {}
            solver = self._train_part(run, state["n_calls"], solver)
        self.network_.eval()
        self.n_iter_ = len(self.loss_curve_)
        state |= {"n_calls": state["n_calls"] + 1, "loss": run.loss}
        self._partial = state | {"optimizer": self.optimizer, "solver": solver}

    def _check_n_bits(self):
        """Raise if the network gives codes of another length than the parameters say."""
        n_bits = self.network_.head.hash.out_features
        if n_bits != self.n_bits:
            raise ValueError(
                f"partial_fit goes on with a network of n_bits={n_bits}, got n_bits="
                f"{self.n_bits}; fit, or a clone of the hasher, would start afresh."
            )

    def _train_part(self, run, n_calls, state):
        """Train one epoch, with a solver in this state, and return its state."""
        optimizer = self._make_optimizer(run.loss.to(run.device), all_of_it=True)
        # Rates are those of the parameters, which may have been set since.
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        self._train_epoch(self._full_stage(run.X, offset=0), run, optimizer, n_calls)
        if "validation_score" in self.history_:
            self.history_["validation_score"].append(math.nan)
        return optimizer.state_dict()["state"]

    def _get_loss(self):
        """Return the loss as an object; of "ranking", with the parameters of the hasher."""
        if isinstance(self.loss, str) and self.loss == "ranking":
            return RankingLoss(
                margin=self.margin,
                weighting=self.weighting,
                balance=self.balance,
                class_weight=self.class_weight,
            )
        return get_loss(self.loss)

    def _check_learnable(self, Y):
        """Raise if label sets say nothing that the loss can learn from."""
        loss = self._get_loss()
        most = Y.sum(axis=0, dtype=np.int64).max()
        if most < 1:
            raise ValueError(
                "No training sample has a label, so there is nothing to learn; got Y of shape "
                f"{Y.shape} without a 1."
            )
        if most < 2 and getattr(loss, "needs_shared_labels", False):
            raise ValueError(
                "No pair of the training samples shares a label, so there is nothing to rank for "
                f"loss={self.loss!r}; got Y of shape {Y.shape} in which each label holds for at "
                "most one sample."
            )

    def _start_loss(self, Y, device):
        """Start the loss of one training, on the device of the network."""
        started = self._get_loss().start(self.n_bits, torch.tensor(Y, dtype=torch.float32))
        if not isinstance(started, torch.nn.Module):
            raise TypeError(
                f"The method start of loss={self.loss!r} should return a torch.nn.Module, got "
                f"{type(started).__name__}."
            )
        return started.to(device).train()

    def _build(self, X, device, start_from=None):
        """Make the network, or a copy of the one that training is to start from."""
        network = self._build_network(X)
        if start_from is not None:
            _load_start(network, start_from)
        self.network_ = network.to(device)
        if self._input_kind != "features":
            self.network_.to(memory_format=torch.channels_last)

    def _build_network(self, X):
        """Build the untrained network; feature rows are standardised before its head."""
        network = self._network_for(X)
        built = build_network(
            network,
            self.n_bits,
            input_shape=tuple(X.batch(slice(0, 1)).shape[1:]),
            weights=self.weights,
            hidden_size=self.hidden_size,
            dropout=self.dropout,
            taps=self.taps,
            normalization=self.normalization,
        )
        if network == "mlp":
            _standardize(built, X)
        return built

    def _head_stage(self, X, *, standardize):
        """Train the head alone, on the features of the frozen backbone."""
        network = self.network_.eval()
        features = FeatureRows(self._run(network.features, X))
        if standardize:
            _standardize(network, features)

        def set_mode():
            network.eval()
            network.head.train()

        return self._stage(network.project, features, self.head_epochs, set_mode, all_of_it=False)

    def _full_stage(self, X, *, offset):
        """Train all of the network."""
        network = self.network_

        def set_mode():
            network.train()
            if offset:
                freeze_batch_norm(network.backbone)

        augment = self._flip_some if self.flip and self._input_kind != "features" else None
        return self._stage(network, X, self.max_epochs, set_mode, offset=offset, augment=augment)

    def _stage(self, forward, *args, **kwargs):
        compiled = torch.compile(forward) if self.compile else forward
        return _Stage(forward, compiled, *args, **kwargs)

    def _train(self, stage, run):
        """Run the epochs of one stage; with early stopping, go back to its best weights."""
        optimizer = self._make_optimizer(run.loss, all_of_it=stage.all_of_it)
        factor = warm_cosine if self.optimizer == "adamw" else halfway_tenth
        n_steps = stage.n_epochs * -(-len(self._batches(run, 0)) // self.accumulation)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor(n_steps))
        best = BestWeights(self.n_iter_no_change, self.tol)
        parts = {"network": self.network_, "loss": run.loss, "best": best}
        parts |= {"optimizer": optimizer, "schedule": schedule}
        epoch = self._resume(stage, run, parts)
        while epoch < stage.end and not (run.stopped or best.exhausted()):
            task = run.callbacks.subcontext(task_name="epoch").call_on_fit_task_begin(
                estimator=self, X=run.given_X, y=run.given_Y
            )
            self._train_epoch(stage, run, optimizer, epoch, schedule)
            if self.early_stopping:
                best.update(self._validate(stage, run), self.network_)
            run.stopped = self._end_task(task, run)
            epoch += 1
            self._save(stage, run, parts, epoch)
        best.restore(self.network_)

    def _save(self, stage, run, parts, epoch):
        """Write all that decides how training goes on, if there is a checkpoint to write."""
        if run.checkpoint is None:
            return
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"stage": stage.offset, "epoch": epoch, "stopped": run.stopped}
        state["generators"] = [generator.get_state() for generator in run.generators]
        run.checkpoint.save(state | {"history": self.history_})

    def _resume(self, stage, run, parts):
        """Take up what the checkpoint has of this stage; return the epoch to go on with."""
        state = run.resumed
        if state is None or state["stage"] != stage.offset:
            return stage.offset
        run.resumed = None
        for name, part in parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"The checkpoint {str(run.checkpoint.path)!r} is of another training: its "
                    f"{name} does not fit. Set checkpoint_dir to another directory. {error}"
                ) from error
        for generator, its_state in zip(run.generators, state["generators"], strict=True):
            generator.set_state(its_state)
        self.history_ = state["history"]
        self.loss_curve_ = self.history_["loss"]
        run.stopped = state["stopped"]
        return state["epoch"]

    def _validate(self, stage, run):
        """Score the held-out samples as queries over the other training samples."""
        self.network_.eval()
        codes, labels = pack_codes(self._run(stage.forward, stage.source) >= 0), pack_codes(run.Y)
        queries, database = ((codes[rows], labels[rows]) for rows in (run.held_out, run.rows))
        problem = RetrievalProblem.from_packed(*queries, *database, n_bits=self.n_bits)
        scores = score_queries(problem, "ndcg", k=100)
        self.history_["validation_score"].append(float(scores.mean()))
        if self.verbose:
            print(f"[{type(self).__name__}] NDCG@100 of held-out samples: {scores.mean():.4f}")
        return self.history_["validation_score"][-1]

    def _end_task(self, task, run):
        """Call the callbacks at the end of an epoch; return whether one wants to stop."""
        return task.call_on_fit_task_end(
            estimator=self,
            X=run.given_X,
            y=run.given_Y,
            reconstruction_attributes=lambda: self._as_if_fitted(run),
        )

    def _as_if_fitted(self, run):
        """Return the attributes that `fit` would leave if it ended here."""
        self.network_.eval()
        attributes = {"network_": copy.deepcopy(self.network_), "_n_features_out": self.n_bits}
        hasher = copy.copy(self)
        vars(hasher).update(attributes)
        hasher._store_database(run.X, run.Y)
        names = ("database_codes_", "database_labels_")
        return attributes | {name: getattr(hasher, name) for name in names}

    def _batches(self, run, epoch):
        """Return the rows of each batch of an epoch."""
        batches = epoch_batches(len(run.rows), self.batch_size, seed=run.seed, epoch=epoch)
        return [run.rows[batch] for batch in batches]

    def _train_epoch(self, stage, run, optimizer, epoch, schedule=None):
        """Go through all batches, and note the mean loss."""
        started, rate = time.perf_counter(), max(group["lr"] for group in optimizer.param_groups)
        stage.set_mode()
        losses = self._train_batches(stage, run, optimizer, epoch, schedule)
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss of epoch {epoch} is {loss}. A smaller "
                f"learning_rate than {self.learning_rate} would do."
            )
        seconds = time.perf_counter() - started
        for name, value in (("loss", loss), ("learning_rate", rate), ("seconds", seconds)):
            self.history_[name].append(value)
        if self.verbose:
            print(f"[{type(self).__name__}] epoch {epoch}: loss {loss:.4f}")

    def _train_batches(self, stage, run, optimizer, epoch, schedule):
        """Take a step for each group of `accumulation` batches; return the losses."""
        batches, losses = self._batches(run, epoch), []
        n_all = len(batches) * max(1, self.head_epochs + self.max_epochs)
        for rows, inputs in zip(batches, prefetched(stage.source, batches), strict=True):
            progress = min(1.0, (epoch * len(batches) + len(losses)) / n_all)
            group = len(losses) - len(losses) % self.accumulation
            n_batches = min(self.accumulation, len(batches) - group)
            loss = self._batch_loss(stage, inputs, run, rows, progress)
            (loss / n_batches).backward()
            losses.append(loss.detach())
            if len(losses) == group + n_batches:
                optimizer.step()
                optimizer.zero_grad()
                if schedule is not None:
                    schedule.step()
        return losses

    def _batch_loss(self, stage, inputs, run, rows, progress):
        """Return the loss of one batch."""
        inputs = self._to_device(inputs)
        if stage.augment is not None:
            inputs = stage.augment(inputs)
        with self._autocast():
            projection = stage.compiled(inputs)
        labels = torch.from_numpy(run.Y[rows]).to(projection.device, torch.float32)
        return run.loss(projection.float(), labels, progress)

    def _make_optimizer(self, loss, *, all_of_it):
        """Return the optimiser of the loss and of the head, or of all of the network."""
        network, rate, slow = self.network_, self.learning_rate, self.backbone_learning_rate
        sgd = self.optimizer == "sgd"
        if slow == "auto":
            slow = rate / 10 if sgd else rate
        backbone = [(network.backbone, slow)] if all_of_it else []
        if sgd:
            *hidden, last = network.head.layers()
            parts = [*((layer, slow) for layer in hidden), *backbone, (last, rate), (loss, rate)]
            return PaperSGD(parts, network.head, self.weight_decay)
        if all_of_it and self.head_epochs:
            rate = slow
        parts = [(network.head, rate), *backbone, (loss, rate)]
        groups = [{"params": list(module.parameters()), "lr": rate} for module, rate in parts]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)

    def _flip_some(self, images):
        """Mirror each image with probability one half."""
        chosen = torch.rand(len(images), device=images.device) < 0.5
        images[chosen] = transforms.horizontal_flip(images[chosen])
        return images

    def _project(self, X):
        projection = self._run(self.network_.to(resolve_device(self.device)), X)
        # The loss is taken before each step: the last one may be the one that went astray.
        if not np.isfinite(projection).all():
            raise ValueError(
                "Training diverged: the projection is not finite. A smaller learning_rate than "
                f"{self.learning_rate} would do."
            )
        return projection

    @torch.inference_mode()
    def _run(self, forward, source):
        """Apply the network, or its first part, to all of `source`; return float32."""
        features = self._input_kind == "features"
        batches = gen_batches(len(source), _PROJECT_ROWS if features else self.batch_size)
        with self._autocast():
            outputs = [
                forward(self._to_device(inputs)).float().cpu()
                for inputs in prefetched(source, batches)
            ]
        return torch.cat(outputs).numpy()

    def _to_device(self, inputs):
        """Send a batch to the network's device, images channels-last."""
        device = self.network_.mean.device
        if device.type == "cuda":
            inputs = inputs.pin_memory().to(device, non_blocking=True)
        inputs = inputs.to(device)
        return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs

    def _autocast(self):
        """Return the context in which the network computes."""
        device = self.network_.mean.device
        if self.precision == "auto":
            enabled = self._input_kind != "features" and has_bfloat16(device)
        else:
            enabled = self.precision == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

    @staticmethod
    def _saved_types():
        return SAVED_LOSSES

    def _learnt(self):
        """Return what was learnt; of the network, its tensors."""
        learnt = super()._learnt()
        # Solver and loss of partial_fit: as after `fit`, the next call starts new ones.
        learnt.pop("_partial", None)
        tensors = learnt.pop("network_").state_dict()
        return learnt | {"_tensors": {name: tensors[name].cpu().numpy() for name in tensors}}

    def _take_over(self, learnt):
        """Set what was learnt, and rebuild the network around its tensors."""
        tensors = {name: torch.from_numpy(array) for name, array in learnt.pop("_tensors").items()}
        super()._take_over(learnt)
        self.network_ = self._rebuilt_network(tensors)

    def _rebuilt_network(self, tensors):
        """Return a network as the parameters say, with these tensors, on the CPU."""
        features = self._input_kind == "features"
        # The generator of torch is to be left alone by weights that are overwritten.
        with seeded(0, torch.device("cpu")):
            network = build_network(
                self._settled_network(None if features else self.image_size_),
                self.n_bits,
                input_shape=(self.n_features_in_,) if features else (3, *self.image_size_),
                hidden_size=self.hidden_size,
                dropout=self.dropout,
                taps=self.taps,
                # Which "auto" would take from pretrained weights; those are not loaded here.
                normalization=(tensors["mean"].squeeze(), tensors["std"].squeeze()),
            )
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(
                f"The network that the parameters ask for is not the one that was saved. {error}"
            ) from error
        network.requires_grad_(True).eval()
        return network if features else network.to(memory_format=torch.channels_last)

    def to_onnx(self, path):
        """Write network, threshold and packing of bits as an ONNX model.

        The model maps feature rows of shape (n_samples, n_features), float32, or images of shape
        (n_samples, height, width, 3), uint8, of the size `image_size_` to packed codes of shape
        (n_samples, ceil(n_bits / 8)), uint8: those of ``pack_codes(hasher.transform(X))``. It
        computes in float32. Bits whose projection is within rounding of 0 may differ, more of them
        where `transform` computes in bfloat16. Images of another size are to be resized as
        `transform` does it (``torchvision.transforms.v2.functional.resize``, antialiased).

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ImportError
            If onnx or onnxscript is missing; ``pip install scikit-hash[onnx]`` brings both.
        """
        check_is_fitted(self)
        shape = (self.n_features_in_,) if self._input_kind == "features" else self.image_size_
        export(self.network_, shape, path)

    def __getstate__(self):
        """Pickle the network as it is on a CPU, so that it loads where there is no GPU."""
        state = super().__getstate__()
        network = state.get("network_")
        if network is not None and network.mean.device.type != "cpu":
            names = ("network_", "_partial")
            state = state | {name: on_cpu(state[name]) for name in names if name in state}
        return state


@dataclass
class _Run:
    """One training: data, device and seed; which rows are learnt from; loss and callbacks."""

    X: FeatureRows | ImageArray | ImageFiles
    Y: np.ndarray
    device: torch.device
    seed: int
    rows: np.ndarray
    held_out: np.ndarray | None = None
    start_from: torch.nn.Module | None = None
    checkpoint: Checkpoint | None = None
    resumed: dict | None = None
    generators: Sequence[torch.Generator] = ()
    stopped: bool = False
    given_X: object = None
    given_Y: np.ndarray | None = None
    loss: torch.nn.Module | None = None
    callbacks: object = None

    def is_past(self, offset):
        """Return whether the checkpoint is of a later stage than the one that starts there."""
        return self.resumed is not None and self.resumed["stage"] > offset


@dataclass
class _Stage:
    """Epochs in which one part of the network is trained: what is run, on what, in which mode."""

    forward: Callable
    compiled: Callable
    source: FeatureRows | ImageArray | ImageFiles
    n_epochs: int
    set_mode: Callable
    all_of_it: bool = True
    offset: int = 0
    augment: Callable | None = None

    @property
    def end(self):
        """The epoch after the last one."""
        return self.offset + self.n_epochs


def _check_minimum(n_samples, minimum, hasher):
    """Raise in scikit-learn's words if there are fewer samples."""
    if n_samples < minimum:
        raise ValueError(
            f"Found array with {n_samples} sample(s) while a minimum of {minimum} is required by "
            f"{type(hasher).__name__}."
        )


def _load_start(network, start_from):
    """Copy the weights of an earlier fit, or raise if the network is of another shape."""
    try:
        network.load_state_dict(start_from.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the network of the last fit, which differs from what "
            f"the parameters and X ask for now; warm_start=False starts afresh. {error}"
        ) from error


def _standardize(network, features):
    """Have the head of `network` see these training features with mean 0 and variance 1."""
    scaler = StandardScaler()
    for rows in gen_batches(len(features), _PROJECT_ROWS):
        scaler.partial_fit(features.batch(rows).numpy())
    network.standardize(scaler.mean_, scaler.scale_)
