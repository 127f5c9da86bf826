"""From images or feature rows to a projection: backbones and the two-tap hash head."""

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

__all__ = [
    "HashNetwork",
    "HeadEnsemble",
    "TwoTapHead",
    "build_network",
    "choose_image_size",
    "choose_network",
    "copy_weights",
]

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


class TwoTapHead(nn.Module):
    """Two fully connected layers, FCa and FCb, and a hash layer that reads both, or either.

    FCb is nearer to the labels of its pre-training and has lost detail that FCa still has, so the
    hash layer is given ``[FCa, dropout(FCb)]``.

    Parameters
    ----------
    n_features : int
        Number of features of the backbone.

    n_bits : int
        Length of the codes.

    hidden_size : int
        Number of units of FCa and of FCb.

    dropout : float
        Probability with which inputs of FCb, and outputs of FCb, are zeroed in training.

    taps : {"both", "fca", "fcb"}, default="both"
        What the hash layer reads. With "fca" there is no FCb, and no such dropout.

    input_dropout : float, default=0.0
        Probability with which features are zeroed in training.

    References
    ----------
    F. Zhao, Y. Huang, L. Wang, T. Tan, "Deep semantic ranking based hashing for multi-label image
    retrieval", CVPR 2015, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.networks import TwoTapHead
    >>> TwoTapHead(20, 16, hidden_size=32, dropout=0.5)(torch.zeros(4, 20)).shape
    torch.Size([4, 16])
    """

    def __init__(
        self, n_features, n_bits, *, hidden_size, dropout, taps="both", input_dropout=0.0
    ):
        super().__init__()
        self.taps = taps
        self.fca = nn.Linear(n_features, hidden_size)
        self.fcb = None if taps == "fca" else nn.Linear(hidden_size, hidden_size)
        self.hash = nn.Linear((2 if taps == "both" else 1) * hidden_size, n_bits)
        self.dropout, self.input_dropout = nn.Dropout(dropout), nn.Dropout(input_dropout)
        # Relaxed codes near zero are a saddle point of their distances: start well away from it.
        for layer in self.layers():
            init = nn.init.xavier_normal_ if layer is self.hash else nn.init.kaiming_normal_
            init(layer.weight)
            nn.init.zeros_(layer.bias)

    def layers(self):
        """Return the linear layers that there are, from the first to the hash layer."""
        return [layer for layer in (self.fca, self.fcb, self.hash) if layer is not None]

    def forward(self, features):
        """Map (n, n_features) to the projection (n, n_bits)."""
        a = functional.relu(self.fca(self.input_dropout(features)))
        if self.taps == "fca":
            return self.hash(a)
        b = self.dropout(functional.relu(self.fcb(self.dropout(a))))
        return self.hash(b if self.taps == "fcb" else torch.cat([a, b], dim=1))


class HeadEnsemble(nn.ModuleList):
    """Heads side by side on the same features, each trained by a loss of its own.

    Parameters
    ----------
    modules : iterable of TwoTapHead
        The heads, all of the same `n_bits`.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.networks import HeadEnsemble, TwoTapHead
    >>> heads = HeadEnsemble(TwoTapHead(20, 16, hidden_size=32, dropout=0) for _ in range(3))
    >>> heads(torch.zeros(4, 20)).shape
    torch.Size([4, 48])
    """

    def forward(self, features):
        """Map (n, n_features) to the projections of all heads (n, n_heads * n_bits)."""
        return torch.cat([head(features) for head in self], dim=1)


class HashNetwork(nn.Module):
    """Normalisation of the input, backbone, standardisation of its features, hash head.

    Parameters
    ----------
    backbone : nn.Module
        From input (n, 3, height, width), or rows (n, d), to features (n, n_features); further
        axes of its output are flattened.

    head : TwoTapHead or HeadEnsemble
        From features to projection, or to those of several heads one after the other.

    n_features : int
        Number of features of the backbone.

    mean, std : float or sequence of 3 floats
        Subtracted from the input and divided by, per channel for images, in units of pixels.
    """

    def __init__(self, backbone, head, *, n_features, mean=0.0, std=1.0):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("mean", _per_channel(mean))
        self.register_buffer("std", _per_channel(std))
        self.register_buffer("feature_mean", torch.zeros(n_features))
        self.register_buffer("feature_scale", torch.ones(n_features))

    @property
    def device(self):
        """Where the network is, a :class:`torch.device`."""
        return self.mean.device

    @property
    def n_bits(self):
        """Length of the codes of a head."""
        head = self.head[0] if isinstance(self.head, HeadEnsemble) else self.head
        return head.hash.out_features

    def shorten(self, n_bits):
        """Keep the first `n_bits` outputs of the hash layer alone.

        Several heads stay as they are: each bit that is made of them takes all of theirs.
        """
        if isinstance(self.head, HeadEnsemble):
            return
        layer = self.head.hash
        shorter = nn.utils.skip_init(nn.Linear, layer.in_features, n_bits, device=self.device)
        with torch.no_grad():
            shorter.weight.copy_(layer.weight[:n_bits])
            shorter.bias.copy_(layer.bias[:n_bits])
        self.head.hash = shorter

    def train_head(self):
        """Put the head into training mode, and the backbone into evaluation mode."""
        self.eval()
        self.head.train()

    def train_all(self, *, keep_statistics):
        """Put all of the network into training mode.

        Parameters
        ----------
        keep_statistics : bool
            Whether batch normalisation of the backbone keeps the statistics that it has, on which
            the head may have been trained.
        """
        self.train()
        if keep_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def features(self, inputs):
        """Map the raw input to the features of the backbone (n, n_features)."""
        return self.backbone((inputs - self.mean) / self.std).flatten(1)

    def project(self, features):
        """Map features of the backbone to the projection (n, n_bits), of each head."""
        return self.head((features - self.feature_mean) * self.feature_scale)

    def forward(self, inputs):
        """Map the raw input to the projection (n, n_bits), of each head."""
        return self.project(self.features(inputs))

    def standardize(self, mean, scale):
        """Have the head see features with `mean` subtracted, divided by `scale`."""
        self.feature_mean.copy_(torch.as_tensor(mean))
        self.feature_scale.copy_(1 / torch.as_tensor(scale))


def _per_channel(values):
    """Return a number or three as a tensor that broadcasts against inputs."""
    values = torch.as_tensor(values, dtype=torch.float32).clone()
    return values[:, None, None] if values.ndim else values


@dataclass
class _Parts:
    """A backbone, what its input is to be normalised with, and what its head starts from."""

    backbone: nn.Module
    mean: float | Sequence[float] = 127.5
    std: float | Sequence[float] = 127.5
    hidden_size: int = 512
    pretrained_head: tuple[nn.Linear, nn.Linear] | None = None


def build_network(
    network,
    n_bits,
    *,
    input_shape,
    weights=None,
    hidden_size="auto",
    dropout=0.0,
    taps="both",
    input_dropout=0.0,
    normalization="auto",
    n_heads=1,
):
    """Build the network that `DeepRankingHasher` trains.

    Parameters
    ----------
    network : {"alexnet", "convnet", "mlp"}, str of the form "timm:NAME", or callable
        Which backbone; a callable is called without arguments and returns one, which is copied.

    n_bits : int
        Length of the codes.

    input_shape : tuple
        Shape of one input: (3, height, width) or (n_features,).

    weights : str, path-like or None, default=None
        Pretrained weights: a file of a state dict; for "alexnet" also a name of
        :class:`torchvision.models.AlexNet_Weights`, for timm also "pretrained".

    hidden_size : int or "auto", default="auto"
        Units of FCa and FCb; "auto" is 4096 for "alexnet", else 512.

    dropout : float, default=0.0
        Dropout of the head.

    taps : {"both", "fca", "fcb"}, default="both"
        Which fully connected layers the hash layer reads.

    input_dropout : float or "auto", default=0.0
        Dropout of the features that the head reads; "auto" is ``min(0.5, d / (d + 1024))`` for
        `d` features.

    normalization : "auto" or tuple (mean, std), default="auto"
        Mean and standard deviation of pixels, each a number or one a channel; "auto" is what
        the network was made for, and leaves feature rows alone.

    n_heads : int, default=1
        Number of heads.

    Returns
    -------
    network : HashNetwork
        In training mode, on the CPU.

    Raises
    ------
    ValueError
        If the name is unknown, the weights do not fit, `normalization` is malformed, or the
        backbone does not take such input.

    FileNotFoundError
        If the file of weights is missing.

    OSError
        If pretrained weights cannot be fetched.

    ImportError
        If timm is asked for and not installed.

    TypeError
        If the callable does not return a module.
    """
    parts = _parts(network, weights)
    if normalization == "auto":
        # Rows of features have no pixels to normalise.
        normalization = (parts.mean, parts.std) if len(input_shape) == 3 else (0.0, 1.0)
    mean, std = _check_normalization(normalization, input_shape)
    n_features = _count_features(parts.backbone, input_shape, network)
    size = parts.hidden_size if hidden_size == "auto" else hidden_size
    if input_dropout == "auto":
        input_dropout = min(0.5, n_features / (n_features + 1024))
    heads = [
        TwoTapHead(
            n_features,
            n_bits,
            hidden_size=size,
            dropout=dropout,
            taps=taps,
            input_dropout=input_dropout,
        )
        for _ in range(n_heads)
    ]
    if parts.pretrained_head is not None:
        for head in heads:
            _start_head_from(head, parts.pretrained_head, input_shape)
    head = heads[0] if n_heads == 1 else HeadEnsemble(heads)
    return HashNetwork(parts.backbone, head, n_features=n_features, mean=mean, std=std)


def _check_normalization(normalization, input_shape):
    """Return (mean, std), finite numbers or one a channel, or raise."""
    per_channel = tuple(input_shape[:1]) if len(input_shape) == 3 else ()
    try:
        mean, std = (torch.as_tensor(part, dtype=torch.float32) for part in normalization)
        fits = all(part.shape in ((), per_channel) for part in (mean, std))
    except (TypeError, ValueError):
        fits = False
    if not fits or not mean.isfinite().all() or not (std.isfinite() & (std > 0)).all():
        raise ValueError(
            "normalization should be 'auto' or a tuple (mean, std), each a finite number or one "
            f"a channel, std above 0; got {normalization!r}."
        )
    return mean, std


def _parts(network, weights):
    """Look up or call what makes the backbone."""
    if isinstance(network, nn.Module) or not isinstance(network, (str, Callable)):
        raise TypeError(
            "network should be a name or a callable that returns a new torch.nn.Module, so that "
            f"each fit starts from its own; got {network!r}."
        )
    if callable(network):
        return _from_factory(network, weights)
    if network.startswith("timm:"):
        return _from_timm(network.removeprefix("timm:"), weights)
    if network not in _NETWORKS:
        raise ValueError(
            f"network should be one of {sorted(_NETWORKS)}, 'timm:NAME' or a callable that "
            f"returns a torch.nn.Module, got {network!r}."
        )
    return _NETWORKS[network](weights)


def _alexnet(weights):
    """AlexNet as torchvision has it: its FC layers become the start of FCa and FCb."""
    from torchvision.models import AlexNet_Weights, alexnet

    model = alexnet()
    if weights is not None:
        names = {str(w): w for w in AlexNet_Weights} | dict(AlexNet_Weights.__members__)
        if weights in names:
            with _fetching(weights):
                state = names[weights].get_state_dict(progress=False)
        else:
            state = _read_state(weights, f"or one of {sorted(AlexNet_Weights.__members__)}")
        _load(model, state, weights)
    return _Parts(
        nn.Sequential(model.features, model.avgpool),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        hidden_size=4096,
        pretrained_head=None if weights is None else (model.classifier[1], model.classifier[4]),
    )


def _convnet(weights):
    """Three 3 x 3 convolutions, each at half the resolution of the one before."""
    layers, n_in = [], 3
    for n_out in (32, 64, 128):
        layers += [
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
        n_in = n_out
    # Where a pattern is in the image does not matter: its strongest response does.
    # Standardised features keep what tells images apart from being lost in their mean.
    pooling = (nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.BatchNorm1d(n_in))
    backbone = nn.Sequential(*layers[:-1], *pooling)
    if weights is not None:
        _load(backbone, _read_state(weights), weights)
    return _Parts(backbone)


def _mlp(weights):
    """No backbone: the head reads the feature rows."""
    if weights is not None:
        raise ValueError(f"network='mlp' has no pretrained weights, got weights={weights!r}.")
    return _Parts(nn.Identity())


def _from_timm(name, weights):
    """Make a backbone of timm, without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f"network='timm:{name}' needs the package timm; `pip install timm` brings it."
        ) from error
    if not timm.is_model(name):
        raise ValueError(f"network='timm:{name}' names no model of timm; see timm.list_models().")
    with _fetching(weights, f" of timm's {name!r}"):
        model = timm.create_model(name, pretrained=weights == "pretrained", num_classes=0)
    if weights not in (None, "pretrained"):
        state = _read_state(weights, "or 'pretrained'")
        classifier = model.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        state = {k: v for k, v in state.items() if k.rpartition(".")[0] not in heads}
        _load(model, state, weights)
    return _Parts(
        model,
        mean=[255 * value for value in model.pretrained_cfg["mean"]],
        std=[255 * value for value in model.pretrained_cfg["std"]],
    )


def _from_factory(factory, weights):
    """Call the user's factory."""
    # A copy: a factory that returns one module twice is not to see it trained.
    backbone = copy.deepcopy(factory())
    if not isinstance(backbone, nn.Module):
        raise TypeError(
            "network, called without arguments, should return a torch.nn.Module, "
            f"got {type(backbone).__name__}."
        )
    if weights is not None:
        _load(backbone, _read_state(weights), weights)
    return _Parts(backbone)


_NETWORKS = {"alexnet": _alexnet, "convnet": _convnet, "mlp": _mlp}


def choose_network(network, image_size):
    """Return `network`, "auto" replaced by the choice for images of a size, or for rows.

    Parameters
    ----------
    network : str or callable
        As :func:`build_network` takes it, or "auto".

    image_size : tuple (height, width), "files" or None
        Size of the images, "files" where it is not known; None for feature rows.

    Returns
    -------
    network : str or callable
    """
    if network != "auto":
        return network
    if image_size is None:
        return "mlp"
    return "convnet" if image_size != "files" and max(image_size) <= 64 else "alexnet"


def choose_image_size(image_size, network, native_size):
    """Return (height, width) to which images are resized, or raise.

    Parameters
    ----------
    image_size : int, tuple (height, width) or "auto"
        What is asked for.

    network : str or callable
        As :func:`build_network` takes it, or "auto".

    native_size : tuple (height, width) or None
        Size of the images; None where it differs, or is not known.

    Returns
    -------
    size : tuple (height, width)

    Raises
    ------
    ValueError
        If `image_size` is malformed, or "auto" where neither images nor network have a size.
    """
    if isinstance(image_size, Integral):
        return (image_size, image_size)
    if image_size != "auto":
        if len(image_size) != 2 or not all(isinstance(n, Integral) and n > 0 for n in image_size):
            raise ValueError(
                "image_size should be an int or a tuple (height, width) of ints above 0, "
                f"got {image_size!r}."
            )
        return tuple(image_size)
    if choose_network(network, native_size or "files") == "alexnet":
        return (224, 224)
    if native_size is None:
        raise ValueError(
            "image_size should be given for image files, data sets and images of several sizes "
            f"with network={network!r}, which has no size of its own; got 'auto'."
        )
    return tuple(native_size)


def copy_weights(network, start_from):
    """Copy into a network the weights of an earlier fit, or raise if its shape is another."""
    try:
        network.load_state_dict(start_from.state_dict())
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the network of the last fit, which differs from what "
            f"the parameters and X ask for now; warm_start=False starts afresh. {error}"
        ) from error


@contextmanager
def _fetching(weights, of=""):
    """Raise naming what was to be fetched, and what would do, if it cannot be."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"weights={weights!r}{of} could not be fetched: {error} Without a network, set "
            "weights=FILE, the file of a state dict."
        ) from error


def _read_state(path, alternative=""):
    """Return the state dict in a file, without running any code in it."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"weights should be the file of a state dict {alternative}".rstrip()
            + f", got {str(path)!r}, which does not exist."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises about anything
        raise ValueError(f"weights={str(path)!r} is not a state dict that torch reads.") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError(
            f"weights={str(path)!r} should hold a state dict, from names to tensors, "
            f"got {type(state).__name__}."
        )
    return state


def _load(module, state, weights):
    """Load a state dict by name, or raise saying what does not fit."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights={str(weights)!r} do not fit the network: {error}") from error


def _count_features(backbone, input_shape, network):
    """Run the backbone once on zeros, and return how many features it has."""
    was_training = backbone.training
    try:
        with torch.no_grad():
            output = backbone.eval()(torch.zeros(1, *input_shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"network={network!r} does not take input of shape {tuple(input_shape)}: {error}"
        ) from error
    finally:
        backbone.train(was_training)
    if not isinstance(output, torch.Tensor) or output.ndim < 2:
        raise ValueError(
            f"network={network!r} should map a batch to a tensor of shape "
            f"(n_samples, n_features), got {getattr(output, 'shape', type(output).__name__)}."
        )
    return output.flatten(1).shape[1]


def _start_head_from(head, layers, input_shape):
    """Copy pretrained fully connected layers into FCa and FCb, or raise."""
    # There may be no FCb.
    for own, pretrained in zip(head.layers()[:-1], layers, strict=False):
        if own.weight.shape != pretrained.weight.shape:
            raise ValueError(
                "hidden_size should be 'auto' with pretrained fully connected layers of shape "
                f"{tuple(pretrained.weight.shape)}, got {tuple(own.weight.shape)} for input of "
                f"shape {tuple(input_shape)}."
            )
        own.load_state_dict(pretrained.state_dict())
