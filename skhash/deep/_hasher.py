"""DeepRankingHasher: parameters, and the fit loop in small verbs."""

import copy
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from torchvision.transforms.v2 import functional as transforms

from skhash.base import BaseHasher
from skhash.deep._inputs import FeatureRows, ImageArray, ImageFiles, input_kind, prefetched
from skhash.deep.losses import RankingLoss, SampledRankingLoss, get_loss
from skhash.deep.networks import build_network, default_image_size
from skhash.deep.sampling import epoch_batches

# Rows of features projected at once; images take `batch_size`.
_PROJECT_ROWS = 4096


class DeepRankingHasher(BaseHasher):
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

    dropout : float, default=0.5
        Probability of dropout at the fully connected layers.

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
        how to add one.

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
        a tenth of it with "sgd". With "adamw" and `head_epochs`, the already trained head takes
        it while all of the network is trained.

    weight_decay : float, default=5e-4
        Weight decay.

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

    loss_curve_ : list of float
        Mean training loss of each epoch.

    n_iter_ : int
        Number of epochs.

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
        dropout=0.5,
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
        if len(source) < 1 + reset:
            raise ValueError(
                f"Found array with {len(source)} sample(s) while a minimum of {1 + reset} is "
                f"required by {type(self).__name__}."
            )
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
        if self.network != "auto":
            return self.network
        if self._input_kind == "features":
            return "mlp"
        size = source.native_size if self.image_size == "auto" else source.size
        return "convnet" if size is not None and max(size) <= 64 else "alexnet"

    def _fit(self, X, Y):
        loss = self._get_loss()
        self._check_learnable(loss, Y)
        device = _resolve_device(self.device)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.loss_curve_ = []
        with _seeded(seed, device):
            self.network_ = self._build_network(X).to(device)
            if self._input_kind != "features":
                self.network_.to(memory_format=torch.channels_last)
            run = _Run(Y, seed, self._start_loss(loss, Y, device))
            if self.head_epochs:
                self._train_head(X, run)
            if self.max_epochs:
                self._train_all(X, run)
        self.network_.eval()
        self.n_iter_ = len(self.loss_curve_)

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

    def _check_learnable(self, loss, Y):
        """Raise if label sets say nothing that the loss can learn from."""
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

    def _start_loss(self, loss, Y, device):
        """Start the loss of one training, on the device of the network."""
        started = loss.start(self.n_bits, torch.tensor(Y, dtype=torch.float32))
        if not isinstance(started, torch.nn.Module):
            raise TypeError(
                f"The method start of loss={self.loss!r} should return a torch.nn.Module, got "
                f"{type(started).__name__}."
            )
        return started.to(device).train()

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

    def _train_head(self, X, run):
        """Train the head alone, on the features of the frozen backbone."""
        network = self.network_.eval()
        features = FeatureRows(self._run(network.features, X))
        _standardize(network, features)
        network.head.train()
        self._train(network.project, features, self.head_epochs, run)

    def _train_all(self, X, run):
        """Train all of the network."""
        network = self.network_.train()
        if self.head_epochs:
            _freeze_batch_norm(network.backbone)
        augment = self._flip_some if self.flip and self._input_kind != "features" else None
        self._train(network, X, self.max_epochs, run, augment)

    def _train(self, forward, source, n_epochs, run, augment=None):
        """Run epochs of one optimiser over the network, or over what `forward` is of it."""
        optimizer = self._make_optimizer(run.loss, all_of_it=forward is self.network_)
        n_batches = len(epoch_batches(len(source), self.batch_size, seed=run.seed, epoch=0))
        factor = _warm_cosine if self.optimizer == "adamw" else _halfway_tenth
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor(n_epochs * n_batches))
        for _ in range(n_epochs):
            self._train_epoch(forward, optimizer, schedule, source, run, augment)

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
            return _PaperSGD(parts, network.head, self.weight_decay)
        if all_of_it and self.head_epochs:
            rate = slow
        parts = [(network.head, rate), *backbone, (loss, rate)]
        groups = [{"params": list(module.parameters()), "lr": rate} for module, rate in parts]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)

    def _train_epoch(self, forward, optimizer, schedule, source, run, augment):
        """Take a step on each batch, and note the mean loss."""
        epoch = len(self.loss_curve_)
        batches = epoch_batches(len(source), self.batch_size, seed=run.seed, epoch=epoch)
        n_steps = (self.head_epochs + self.max_epochs) * len(batches)
        losses = []
        for rows, inputs in zip(batches, prefetched(source, batches), strict=True):
            inputs = self._to_device(inputs)
            inputs = inputs if augment is None else augment(inputs)
            progress = (epoch * len(batches) + len(losses)) / n_steps
            losses.append(self._train_step(forward, optimizer, inputs, rows, run, progress))
            schedule.step()
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss of epoch {epoch} is {loss}. A smaller "
                f"learning_rate than {self.learning_rate} would do."
            )
        self.loss_curve_.append(loss)
        if self.verbose:
            print(f"[{type(self).__name__}] epoch {epoch}: loss {loss:.4f}")

    def _train_step(self, forward, optimizer, inputs, rows, run, progress):
        """Take one step of the optimiser; return the loss, detached."""
        with self._autocast():
            projection = forward(inputs)
        labels = torch.from_numpy(run.Y[rows]).to(projection.device, torch.float32)
        loss = run.loss(projection.float(), labels, progress)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def _flip_some(self, images):
        """Mirror each image with probability one half."""
        chosen = torch.rand(len(images), device=images.device) < 0.5
        images[chosen] = transforms.horizontal_flip(images[chosen])
        return images

    def _project(self, X):
        projection = self._run(self.network_.to(_resolve_device(self.device)), X)
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
            enabled = self._input_kind != "features" and _has_bfloat16(device)
        else:
            enabled = self.precision == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

    def __getstate__(self):
        """Pickle the network as it is on a CPU, so that it loads where there is no GPU."""
        state = super().__getstate__()
        network = state.get("network_")
        if network is not None and network.mean.device.type != "cpu":
            state = {**state, "network_": copy.deepcopy(network).cpu()}
        return state


@dataclass
class _Run:
    """One training: label sets, seed, and the loss as it was started."""

    Y: np.ndarray
    seed: int
    loss: torch.nn.Module


class _PaperSGD(torch.optim.SGD):
    """SGD with momentum in which biases, and what is read of FCa, have rates of their own.

    Biases take twice the rate and no decay. The hash layer takes a quarter of its rate in the
    columns that read FCa: in SGD, a rate is a factor of gradient and decay.
    """

    def __init__(self, parts, head, weight_decay):
        groups = []
        for module, rate in parts:
            named = list(module.named_parameters())
            biases = [p for name, p in named if name.rpartition(".")[2] == "bias"]
            weights = [p for name, p in named if name.rpartition(".")[2] != "bias"]
            groups += [
                {"params": weights, "lr": rate, "weight_decay": weight_decay},
                {"params": biases, "lr": 2 * rate, "weight_decay": 0.0},
            ]
        super().__init__([group for group in groups if group["params"]], momentum=0.9)
        n_columns = 0 if head.taps == "fcb" else head.fca.out_features
        self._weight, self._from_fca = head.hash.weight, slice(n_columns)
        self._decay = weight_decay

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step."""
        weight = self._weight[:, self._from_fca]
        gradient = self._weight.grad[:, self._from_fca]
        # What the decay adds to it makes this a quarter of gradient and decay.
        gradient.mul_(0.25).sub_(weight, alpha=0.75 * self._decay)
        return super().step(closure)


def _resolve_device(name):
    """Return the torch device of that name, or raise if it is absent."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            "device should be 'auto' or one of torch's CPU, CUDA or MPS devices, such as 'cpu' or "
            f"'cuda:1'; got {name!r}."
        )
    absent = {
        "cpu": False,
        "cuda": (device.index or 0) >= torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if absent[device.type]:
        raise ValueError(
            f"device={name!r} was asked for, but torch finds no such device here; "
            "'auto' takes what there is, 'cpu' always works."
        )
    return device


def _has_bfloat16(device):
    """Whether the device computes in bfloat16, rather than emulates it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


@contextmanager
def _seeded(seed, device):
    """Seed torch's generators, and give them their old state back in the end."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        generators.append(torch.cuda.default_generators[device.index or 0])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _warm_cosine(n_steps):
    """Return the factor of the rate at each step: a linear rise over 5 %, then a cosine to 0."""
    n_warm = max(1, n_steps // 20)

    def factor(step):
        progress = (step - n_warm) / max(1, n_steps - n_warm)
        return min((step + 1) / n_warm, (1 + math.cos(math.pi * max(0.0, progress))) / 2)

    return factor


def _halfway_tenth(n_steps):
    """Return the factor of the rate at each step: 1 in the first half, then a tenth."""
    return lambda step: 1.0 if step < n_steps / 2 else 0.1


def _freeze_batch_norm(backbone):
    """Have batch normalisation keep the statistics on which the head was trained."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def _standardize(network, features):
    """Have the head of `network` see these training features with mean 0 and variance 1."""
    scaler = StandardScaler()
    for rows in gen_batches(len(features), _PROJECT_ROWS):
        scaler.partial_fit(features.batch(rows).numpy())
    network.standardize(scaler.mean_, scaler.scale_)
