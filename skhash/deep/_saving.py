"""Files of a fitted network: skhash's own, pickles and ONNX models."""

import copy
import re

import torch
from sklearn.utils.validation import check_is_fitted

from skhash.deep._devices import on_cpu, seeded
from skhash.deep._onnx import export
from skhash.deep.losses import SAVED_LOSSES, RankingLoss

__all__ = ["NetworkFilesMixin"]


def _sizes(tensors):
    """Return sizes of a head by its tensors.

    Heads of a hasher that was shortened may be longer than its codes, and what "auto" is for
    `hidden_size` has changed.
    """
    names = {
        "n_bits": re.compile(r"head\.(0\.)?hash\.bias"),
        "hidden_size": re.compile(r"head\.(0\.)?fca\.bias"),
    }
    return {
        size: next(len(tensors[name]) for name in tensors if pattern.fullmatch(name))
        for size, pattern in names.items()
    }


class NetworkFilesMixin:
    """Mixin of a hasher with a `network_`, which `_build_network` builds anew."""

    @staticmethod
    def _saved_types():
        return SAVED_LOSSES

    @staticmethod
    def _upgraded(params):
        """Return the parameters of files of former versions, which did what they did then."""
        params = {"input_dropout": 0.0, "encoding": "signs", "n_heads": 1} | params
        if "margin" not in params:
            return params
        names = ("margin", "weighting", "balance", "class_weight")
        of_loss = {name: params[name] for name in names}
        params = {name: params[name] for name in params.keys() - {*names, "accumulation"}}
        if params["loss"] == "ranking":
            params["loss"] = RankingLoss(**of_loss)
        return params | {"flip": "auto" if params["flip"] is True else params["flip"]}

    def _learnt(self):
        """Return what was learnt; of the network, its tensors."""
        learnt = super()._learnt()
        # Solver and loss of partial_fit: as after `fit`, the next call starts new ones.
        learnt.pop("_partial", None)
        tensors = learnt.pop("network_").state_dict()
        return learnt | {"_tensors": {name: tensors[name].cpu().numpy() for name in tensors}}

    @torch.inference_mode(False)
    def _take_over(self, learnt):
        """Set what was learnt, and rebuild the network around its tensors."""
        tensors = {name: torch.from_numpy(array) for name, array in learnt.pop("_tensors").items()}
        # Files of former versions have no such attribute.
        learnt.setdefault("encoding_", "joint" if "code_moments_" in learnt else "signs")
        super()._take_over(learnt)
        features = self._input_kind == "features"
        # The generator of torch is to be left alone by weights that are overwritten.
        with seeded(0, torch.device("cpu")):
            network = self._build_network(
                (self.n_features_in_,) if features else (3, *self.image_size_),
                None,
                # Which "auto" would take from pretrained weights; those are not loaded here.
                (tensors["mean"].squeeze(), tensors["std"].squeeze()),
                **_sizes(tensors),
            )
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(
                f"The network that the parameters ask for is not the one that was saved. {error}"
            ) from error
        network.requires_grad_(True).eval()
        self.network_ = network if features else network.to(memory_format=torch.channels_last)

    def to_onnx(self, path):
        """Write network, threshold and packing of bits as an ONNX model.

        The model maps feature rows of shape (n_samples, n_features), float32, or images of shape
        (n_samples, height, width, 3), uint8, of the size `image_size_` to packed codes of shape
        (n_samples, ceil(n_bits / 8)), uint8: those of ``pack_codes(hasher.transform(X))``. It
        computes in float32. Bits whose projection is within rounding of 0 may differ, more of them
        where `transform` computes in bfloat16. Items are not encoded by it, unless `encoding` is
        "signs": their codes are those of `encode_database`. Images of another size are to be
        resized as `transform` does it (``torchvision.transforms.v2.functional.resize``,
        antialiased).

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
        network = self.network_
        if hasattr(self, "mean_"):
            network = copy.deepcopy(network)
            network.standardize(self.mean_, self.scale_)
        export(network, shape, path, self._query_weights())

    def __getstate__(self):
        """Pickle the network as it is on a CPU, so that it loads where there is no GPU."""
        state = super().__getstate__()
        network = state.get("network_")
        if network is not None and network.device.type != "cpu":
            names = ("network_", "_partial")
            state = state | {name: on_cpu(state[name]) for name in names if name in state}
        return state
