"""DeepRankingHasher: parameters, the choice of parts, and scikit-learn's face."""

import torch
from sklearn.callback import CallbackSupportMixin

from skhash.base import BaseHasher
from skhash.deep._codes import NetworkCodesMixin, have_several_labels
from skhash.deep._fitting import TrainsMixin
from skhash.deep._parameters import CONSTRAINTS, LossParamsMixin
from skhash.deep._partial import TrainsInPartsMixin
from skhash.deep._rows import StandardizedRowsMixin
from skhash.deep._runner import Runner
from skhash.deep._samples import TakesSamplesMixin
from skhash.deep._saving import NetworkFilesMixin
from skhash.deep.losses import SampledRankingLoss, choose_loss
from skhash.deep.networks import (
    build_network,
    choose_network,
    copy_weights,
)

# What "auto" is for `n_heads` where the heads read features that mean something.
_N_HEADS = 2


class DeepRankingHasher(
    CallbackSupportMixin,
    LossParamsMixin,
    NetworkCodesMixin,
    NetworkFilesMixin,
    StandardizedRowsMixin,
    TakesSamplesMixin,
    TrainsInPartsMixin,
    TrainsMixin,
    BaseHasher,
):
    r"""Deep semantic ranking based hashing (DSRH), and the losses of other papers.

    A network with a hash layer on fully connected layers is trained so that, for each image as a
    query, images that share more labels with it are nearer in Hamming distance. The loss of the
    paper is a listwise surrogate of NDCG,

    .. math::

        \sum_{i, j:\, r_i > r_j} \frac{2^{r_i} - 2^{r_j}}{Z} \,
        \max(0, \text{margin} + d_i - d_j) \; + \; \frac{\alpha}{2} \|\bar h\|^2,

    averaged over queries and divided by the length of the list, where :math:`r` is the number of
    shared labels, :math:`h = 2 \sigma(t) - 1` the relaxed code of the projection :math:`t`,
    :math:`d = (n_\text{bits} - h_q \cdot h_x) / 2` the relaxed Hamming distance, :math:`Z` the
    ideal DCG of the list and :math:`\bar h` the mean over the batch. Every image of a batch is a
    query, its list is the rest of the batch, and all pairs of the list count: the sum is exact,
    by sorting (:func:`skhash.deep.losses.ranking_loss`). Other losses train the same network in
    the same way; by default one minus NDCG itself, through a soft histogram of distances
    (:class:`skhash.deep.losses.TieAwareNDCGLoss`).

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes.

    network : {"auto", "alexnet", "convnet", "mlp"}, str "timm:NAME" or callable, default="auto"
        What the hash head reads. "alexnet" is torchvision's, with the hash head on its fully
        connected layers; "convnet" a small network for images of 8 to 64 pixels; "mlp" the head
        alone, for feature rows. With timm installed, "timm:NAME" takes any of its models as the
        backbone. A callable takes no argument and returns a :class:`torch.nn.Module` that maps a
        batch of images (or rows) to features. The module is copied: where it is the same one in
        each call, each `fit` starts from it as it is. "auto" is "mlp" for feature rows, "convnet"
        for images of at most 64 pixels, and "alexnet" else.

    weights : str, path-like or None, default=None
        Pretrained weights of the network: the file of a state dict (read without running code),
        for "alexnet" also a name of :class:`torchvision.models.AlexNet_Weights` such as
        "IMAGENET1K_V1", for timm also "pretrained". None starts from random weights.

    hidden_size : int or "auto", default="auto"
        Units of each of the two fully connected layers: 4096 for "alexnet", else 512.

    input_dropout : float or "auto", default="auto"
        Probability of dropout of the features that the head reads. It keeps the network from
        learning its training set by heart, whose codes would then be far better than those of
        new images. "auto" is ``min(0.5, d / (d + 1024))`` for feature rows and pretrained
        networks of `d` features, of which a few alone are not to be lost; and 0 where features
        are yet to be learnt, from random weights.

    dropout : float, default=0.0
        Probability of dropout at the second fully connected layer; 0.5 in the paper.

    taps : {"both", "fca", "fcb"}, default="fca"
        Which of the two fully connected layers the hash layer reads; both in the paper. With
        "fca" there is no second one.

    n_heads : int or "auto", default="auto"
        Heads side by side on one backbone, each trained by the loss from initial weights of its
        own. Their relaxed codes are rotated onto those of the first, and averaged, so that what a
        head learns by chance counts less. The time of the heads grows with their number. "auto" is
        2 for feature rows and pretrained networks, except "alexnet", with optimizer="adamw"; else
        1.

    image_size : int, tuple (height, width) or "auto", default="auto"
        Whole images are resized to it, never cropped. "auto" is 224 for "alexnet", and else the
        size of the images, which image files and data sets do not have: give it for those.

    normalization : tuple (mean, std) or "auto", default="auto"
        What is subtracted from pixels (0 to 255), and divided by: numbers, or one a channel.
        "auto" is what the network was pretrained with, else 127.5 and 127.5.

    flip : bool or "auto", default="auto"
        Whether to mirror training images left to right at random; "auto" does so. Feature rows
        have no mirror image.

    loss : str or object, default="auto"
        What is minimised: a name of `skhash.deep.losses.LOSSES` for a loss with its
        defaults, such as "ranking", or an object such as
        ``skhash.deep.losses.RankingLoss(margin=4)``. Its parameters are reached as
        ``loss__margin`` and the like, in `set_params` and in a grid search. The user guide lists
        the losses, and shows how to add one. "auto" is "tie_aware_ndcg" for feature rows and
        pretrained networks, and "csq" if at most a tenth of the training samples have several
        labels. From random weights "auto" is "ranking" for two thirds of the training and
        "tie_aware_ndcg", which learns slowly there, for the last one.

    head_epochs : int, default=0
        Epochs at the start in which the backbone is frozen and only the head is trained. The
        features of the frozen backbone are computed once, without flips, and held in memory. It
        is for pretrained backbones: a backbone that is known to have random weights is warned of.

    max_epochs : int or "auto", default="auto"
        Epochs in which all of the network is trained. "auto" is 20 for images and 40 for feature
        rows, of fewer of which than make 500 steps as many as make 500.

    batch_size : int, default=128
        Most samples in a batch; the list of a query is as long, less one, unless the loss has a
        `list_size`.

    optimizer : {"adamw", "sgd"}, default="adamw"
        The solver. "adamw" is Adam with decoupled weight decay, whose rate rises linearly over
        the first steps and falls to zero along a cosine. "sgd" is that of the paper: momentum
        0.9, rates divided by 10 after half of the steps, biases at twice the rate of weights and
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

    early_stopping : bool, default=False
        Whether to hold out a part of the training samples, and after each epoch score a fifth of
        it as queries over the rest of it, by `NDCG@100`: neither is learnt from. Each of the two
        stages of training ends when the score no longer improves, and goes back to the weights
        of its best epoch. The database is the whole training set in the end. Where `fit` is given
        `X_val` and `y_val`, these are held out, and all training samples are learnt from.

    validation_fraction : float, default=0.1
        Fraction of the training samples that is held out. It is not for use with `X_val`.

    n_iter_no_change : int, default=5
        Epochs without an improvement after which to stop.

    tol : float, default=1e-4
        By how much the score has to rise to count as an improvement.

    warm_start : bool, default=False
        Whether `fit` goes on from the network of the last call, if there was one, with a new
        schedule, solver and loss.

    on_interrupt : {"raise", "keep"}, default="raise"
        What a KeyboardInterrupt (Ctrl-C) does while `fit` trains. "raise" passes it on, and the
        hasher is left as it was. "keep" ends the training after its last whole epoch, with a
        warning, and `fit` returns the hasher of then; before the first whole epoch, and while the
        database is encoded in the end, it is passed on. Either way a checkpoint stays, from which
        `fit` called again goes on.

    compile : bool, default=False
        Whether to train through :func:`torch.compile`, which takes a while at the start, rounds
        differently and drops out other units. `transform` does not.

    checkpoint_dir : str, path-like or None, default=None
        Directory in which `fit` keeps a checkpoint, the state of the training after each epoch.
        Killed at any moment and started again, with the same parameters and data, it gives the
        codes of an undisturbed training, on the same machine bit for bit. It stays after the end,
        so that `fit` called again has no epoch left to train; a directory is for one training.
        Needs an int as `random_state`.

        With a larger `max_epochs` training goes on from the last epoch there. From there on,
        rates, and losses that change on the way, are what they would be at that epoch of a
        training of the larger `max_epochs`. The first epochs keep what they learnt at the rates
        of the smaller one, so the codes are the same each time that the same steps are taken,
        and not those of a training that had the larger `max_epochs` from the start. What has
        stopped early, or by a callback, has ended.

        A checkpoint of another training, or a damaged one, is an error. Trainings are told apart
        by parameters, versions, label sets and 256 of the samples: functions by their names;
        lambdas and inner functions also by their code and by the values from around them; the
        file of `weights` by its content; objects by `get_params` or `repr`, and one that shows
        its parameters by neither is an error. Callbacks do not tell trainings apart.

    device : str, default="auto"
        "auto" is CUDA, else MPS, else the CPU; or a device name of torch such as "cuda:1".

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        "bfloat16" runs the network under automatic mixed precision; "auto" does so for images
        where the device has arithmetic for it. Loss and parameters stay float32.

    encoding : {"auto", "joint", "items", "signs"}, default="auto"
        How codes are made of what the network says. "signs" takes its signs, for queries and
        items alike. "joint" does so for neither. The code of an item is chosen as a whole: bits
        are flipped by which its inner products with relaxed codes of queries come nearer to those
        of its own relaxed code. What one bit rounds off, others make good. The code of a query is
        the signs of a linear map of its relaxed code, by which its inner products with the codes
        of items come near to those of relaxed codes. "items" has no such map: queries are encoded
        by signs, items as a whole. Codes of new images rank far better that way than by signs:
        "auto" is "joint" if more than a tenth of the training samples have several labels, else
        "items" for feature rows and pretrained networks, and "signs" for others. An item is then,
        as a query, at a distance of some bits from itself. Take "signs" to look for duplicates, or
        where codes of items are made by `transform`.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    verbose : bool or int, default=False
        Whether to tell the progress: after each epoch its loss, rate and time, and the time that
        is left in the stage; within epochs and encodings that take long the same every ten
        seconds; above 1, after each batch. Lines go to the logger "skhash" at level INFO (without
        `verbose` at level DEBUG), and to the standard output where logging is not set up to take
        them.

    random_state : int, RandomState instance or None, default=None
        Decides initial weights, batches, flips, dropout, and what the loss draws at random. On
        one machine the same seed gives the same codes (on a GPU up to the determinism of its
        kernels). Dropout can only draw from the global generators of torch. They are lent to the
        training for each step, and left as they were; trainings in threads take turns at steps,
        and draw the same as alone. Another thread that draws from the global generators without
        `skhash` during a step gets other numbers, and may change those of the step.

    Attributes
    ----------
    network_ : skhash.deep.networks.HashNetwork
        The trained network, in evaluation mode.

    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of the training rows; only for feature rows with network
        "mlp". `network_` is given rows less `mean_`, divided by `scale_`.

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

    code_moments_ : ndarray of shape (3, n_bits, n_bits)
        Second moments of relaxed codes, of binary ones, and of both, over (at most 20,000 of) the
        training samples, from which codes are made; not where `encoding_` is "signs".

    encoding_ : {"joint", "items", "signs"}
        `encoding`, "auto" replaced by the choice for the labels.

    head_rotations_ : ndarray of shape (n_heads * n_bits, n_bits)
        From relaxed codes of all heads to their rotated mean; only of several heads.

    classes_ : ndarray of shape (n_labels,)
        Labels, see :class:`skhash.base.BaseHasher`.

    n_features_in_ : int
        Number of features seen in `fit`; only for feature rows.

    Notes
    -----
    `X` may be feature rows (n_samples, n_features); images (n_samples, height, width, 3) or
    (n_samples, 3, height, width) of dtype uint8, in memory or memory-mapped; a sequence of paths
    of image files; or a sequence of images, of tuples of an image and more, or of dicts with one
    image, such as a map-style data set of torch or of Hugging Face. Only a few batches of a mapped
    array, of files or of a data set are held at a time. Images are turned upright, as their EXIF
    orientation says. The user guide says how other kinds of files are read, and which are refused.

    `partial_fit` trains all of the network for one epoch on one more part, at constant rates. The
    first call makes the network; after `fit`, calls go on from what was learnt. The parameters
    `head_epochs`, `warm_start`, `early_stopping`, `on_interrupt`, `checkpoint_dir` and callbacks
    are for `fit` alone. So is `max_epochs`, except that losses which change on the way take it for
    the number of calls after which they no longer do. The loss is that of the first call, and what
    it counts, such as frequencies of labels, it counts in the first part. Rates and solver may be
    set between calls.

    Under ``torchrun`` processes train one network together, on several GPUs or machines:
    `batch_size` and the loss are those of all of them. The user guide says how.

    A parameter that would have no effect, such as `tol` without `early_stopping`, is an error in
    `fit` unless it has its default.

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

    _parameter_constraints: dict = {**BaseHasher._parameter_constraints, **CONSTRAINTS}
    _supervised = True

    def __init__(
        self,
        n_bits=32,
        *,
        network="auto",
        weights=None,
        hidden_size="auto",
        input_dropout="auto",
        dropout=0.0,
        taps="fca",
        n_heads="auto",
        image_size="auto",
        normalization="auto",
        flip="auto",
        loss="auto",
        head_epochs=0,
        max_epochs="auto",
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        backbone_learning_rate="auto",
        weight_decay=5e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        tol=1e-4,
        warm_start=False,
        on_interrupt="raise",
        compile=False,  # noqa: A002
        checkpoint_dir=None,
        device="auto",
        precision="auto",
        encoding="auto",
        n_neighbors=5,
        verbose=False,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.network = network
        self.weights = weights
        self.hidden_size = hidden_size
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.taps = taps
        self.n_heads = n_heads
        self.image_size = image_size
        self.normalization = normalization
        self.flip = flip
        self.loss = loss
        self.head_epochs = head_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.backbone_learning_rate = backbone_learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.on_interrupt = on_interrupt
        self.compile = compile
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.precision = precision
        self.encoding = encoding
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
        misplaced = [name for name in overrides if name in SampledRankingLoss().get_params()]
        if misplaced:
            name, value = misplaced[0], overrides[misplaced[0]]
            raise TypeError(
                f"from_paper got {name}={value!r}, which is a parameter of the loss: pass "
                f"loss=SampledRankingLoss({name}={value!r})."
            )
        procedure = {
            "network": "alexnet",
            "input_dropout": 0.0,
            "dropout": 0.5,
            "taps": "both",
            "n_heads": 1,
            "image_size": "auto" if overrides.get("network") == "mlp" else 224,
            "loss": SampledRankingLoss(margin="auto", balance=1.0, n_repeats=3000),
            "encoding": "signs",
            "head_epochs": 0,
            "batch_size": 128,
            "optimizer": "sgd",
            "learning_rate": 1e-3,
            "backbone_learning_rate": 1e-4,
            "weight_decay": 5e-4,
        }
        return cls(n_bits, **(procedure | overrides))

    def _chosen_network(self):
        """Return `network`, "auto" replaced by the choice for the input that it has."""
        return choose_network(self.network, getattr(self, "image_size_", None))

    def _reads_features(self):
        """Whether the head reads features that mean something from the start."""
        pretrained = self.weights is not None or self.head_epochs > 0
        return pretrained or self._input_kind == "features"

    def _chosen_loss(self, Y):
        """Return `loss`, "auto" replaced by the choice for labels and what the head reads."""
        return choose_loss(self.loss, self._reads_features(), have_several_labels(Y))

    def _build(self, X, device, start_from=None):
        """Make the network, or a copy of the one that training is to start from."""
        network = self._build_network(
            tuple(X.batch(slice(0, 1)).shape[1:]), self.weights, self.normalization
        )
        if start_from is not None:
            copy_weights(network, start_from)
        self.network_ = network.to(device)
        if self._input_kind != "features":
            self.network_.to(memory_format=torch.channels_last)

    def _n_heads(self):
        """Return `n_heads`, "auto" replaced by the choice for the network."""
        if self.n_heads != "auto":
            return self.n_heads
        # Layers of AlexNet are as large as the rest of it; the paper's solver is for one head.
        several = self._reads_features() and self._chosen_network() != "alexnet"
        return _N_HEADS if several and self.optimizer == "adamw" else 1

    def _build_network(self, input_shape, weights, normalization, **sizes):
        """Build the network that the parameters ask for, or one of other `sizes`."""
        input_dropout = self.input_dropout
        if input_dropout == "auto" and not self._reads_features():
            input_dropout = 0.0
        return build_network(
            self._chosen_network(),
            input_shape=input_shape,
            weights=weights,
            dropout=self.dropout,
            taps=self.taps,
            input_dropout=input_dropout,
            normalization=normalization,
            n_heads=self._n_heads(),
            **{"n_bits": self.n_bits, "hidden_size": self.hidden_size} | sizes,
        )

    def _runner(self):
        images = self._input_kind != "features"
        return Runner(
            self.network_,
            images=images,
            precision=self.precision,
            batch_size=self.batch_size,
            reporter=self._reporter(),
            ranks=self._ranks,
        )
