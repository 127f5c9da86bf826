"""What the parameters of the deep hasher may be, and where one would have no effect."""

import os
import warnings
from numbers import Integral, Real

from skhash._sklearn import Interval, StrOptions
from skhash.deep.losses import RankingLoss, get_loss

__all__ = [
    "CONSTRAINTS",
    "LossParamsMixin",
    "check_effects",
    "check_held_out",
    "warn_of_random_features",
]

CONSTRAINTS = {
    "network": [str, callable],
    "weights": [str, os.PathLike, None],
    "hidden_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "input_dropout": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "n_heads": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "taps": [StrOptions({"both", "fca", "fcb"})],
    "image_size": [Interval(Integral, 1, None, closed="left"), tuple, StrOptions({"auto"})],
    "normalization": [tuple, StrOptions({"auto"})],
    "flip": ["boolean", StrOptions({"auto"})],
    # Validated by `get_loss`.
    "loss": "no_validation",
    "head_epochs": [Interval(Integral, 0, None, closed="left")],
    "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
    "batch_size": [Interval(Integral, 2, None, closed="left")],
    "optimizer": [StrOptions({"adamw", "sgd"})],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "backbone_learning_rate": [
        Interval(Real, 0, None, closed="neither"),
        StrOptions({"auto"}),
    ],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "warm_start": ["boolean"],
    "compile": ["boolean"],
    "on_interrupt": [StrOptions({"raise", "keep"})],
    "checkpoint_dir": [str, os.PathLike, None],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "encoding": [StrOptions({"auto", "joint", "items", "signs"})],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
}


def _reads_features(hasher, network):
    """Whether the network reads feature rows, and not images."""
    del network
    return hasher._input_kind == "features"


def _has_no_backbone_rate(hasher, network):
    """Whether no layer takes the rate of the backbone."""
    return network == "mlp" and hasher.optimizer == "adamw" and not hasher.head_epochs


# Parameters; when they have no effect, as a function of hasher and network; that in words; and
# what they are for.
_WITHOUT_EFFECT = [
    (
        ("validation_fraction", "n_iter_no_change", "tol"),
        lambda hasher, _: not hasher.early_stopping,
        "without early_stopping",
        "early_stopping=True",
    ),
    (("dropout",), lambda hasher, _: hasher.taps == "fca", "with taps='fca'", "taps='both'"),
    (
        ("n_heads",),
        lambda hasher, _: hasher.optimizer == "sgd" and hasher.n_heads != 1,
        "with optimizer='sgd', the solver of the paper for its one head",
        "optimizer='adamw'",
    ),
    (("flip", "image_size"), _reads_features, "on feature rows", "X of images"),
    (
        ("normalization",),
        lambda _, network: network == "mlp",
        "with network='mlp', which standardises feature rows itself",
        "another network",
    ),
    (
        ("backbone_learning_rate",),
        _has_no_backbone_rate,
        "with network='mlp', which has no backbone, and optimizer='adamw'",
        "a network with a backbone",
    ),
]


def check_effects(hasher, network):
    """Raise if a parameter is set that has no effect with the others and this input.

    Parameters
    ----------
    hasher : DeepRankingHasher
        The hasher, whose input has been looked at.

    network : str or callable
        Its network, "auto" replaced by the choice for the input.

    Raises
    ------
    ValueError
        If a parameter without effect is not at its default.
    """
    defaults = type(hasher)().get_params(deep=False)
    for names, is_without, where, instead in _WITHOUT_EFFECT:
        for name in names:
            value = getattr(hasher, name)
            if value != defaults[name] and is_without(hasher, network):
                raise ValueError(
                    f"{name}={value!r} has no effect {where}. Leave it at its default, "
                    f"{defaults[name]!r}; it is for {instead}."
                )


def check_held_out(hasher, X_val, y_val):
    """Raise if a held-out set is given in half, or to no effect.

    Parameters
    ----------
    hasher : DeepRankingHasher
        The hasher.

    X_val, y_val : array-like or None
        What `fit` was given.

    Raises
    ------
    ValueError
        If only one of them is given, or a parameter and they exclude each other.
    """
    for given, missing, value in (("X_val", "y_val", y_val), ("y_val", "X_val", X_val)):
        if value is None:
            raise ValueError(f"{given} is provided, but {missing} was not provided. Pass both.")
    if not hasher.early_stopping:
        raise ValueError(
            "X_val and y_val have no effect with early_stopping=False. Set early_stopping=True, "
            "or leave them out."
        )
    default = type(hasher)().validation_fraction
    if hasher.validation_fraction != default:
        raise ValueError(
            f"validation_fraction={hasher.validation_fraction!r} has no effect with X_val and "
            f"y_val, which are held out instead. Leave it at its default, {default!r}, or leave "
            "them out."
        )


def warn_of_random_features(hasher, network):
    """Warn if the head is trained on features that a backbone has from random weights.

    Parameters
    ----------
    hasher : DeepRankingHasher
        The hasher.

    network : str or callable
        Its network, "auto" replaced by the choice for the input. What a callable returns may be
        pretrained.
    """
    has_backbone = isinstance(network, str) and network != "mlp"
    if not has_backbone or hasher.weights is not None or not hasher.head_epochs:
        return
    pretrained = ""
    if network == "alexnet":
        pretrained = "'IMAGENET1K_V1' or "
    elif network.startswith("timm:"):
        pretrained = "'pretrained' or "
    warnings.warn(
        f"head_epochs={hasher.head_epochs} trains the head on the features of a backbone of "
        f"random weights, as network={network!r} with weights=None has. Set weights, to "
        f"{pretrained}the file of a state dict, or head_epochs=0.",
        stacklevel=2,
    )


class LossParamsMixin:
    """Mixin of a hasher whose parameter `loss` has parameters of its own."""

    def set_params(self, **params):
        """Set parameters, and those of the loss as ``loss__margin`` and the like.

        Where `loss` is a name, it becomes the object for that name when a parameter of it is set.

        Parameters
        ----------
        **params : dict
            Values by name.

        Returns
        -------
        self : DeepRankingHasher
            The hasher.

        Raises
        ------
        ValueError
            If there is no parameter of a name. The error says which there are.
        """
        of_loss = {name: params.pop(name) for name in [*params] if name.startswith("loss__")}
        misplaced = params.keys() - self.get_params(deep=False).keys() & vars(RankingLoss()).keys()
        if misplaced:
            name = min(misplaced)
            raise ValueError(
                f"Invalid parameter {name!r} for estimator {self}. It is a parameter of the loss: "
                f"set loss__{name}, or loss=RankingLoss({name}=...)."
            )
        super().set_params(**params)
        if of_loss:
            if self.loss == "auto":
                raise ValueError(
                    f"loss='auto' has no parameter to set, got {min(of_loss)!r}: fit chooses the "
                    "loss by its input. Set loss too, to a name such as 'ranking' or an object."
                )
            loss = get_loss(self.loss)
            if not hasattr(loss, "set_params"):
                raise ValueError(f"loss={loss!r} has no parameters to set, got {min(of_loss)!r}.")
            loss.set_params(**{name.removeprefix("loss__"): of_loss[name] for name in of_loss})
            self.loss = loss
        return self
