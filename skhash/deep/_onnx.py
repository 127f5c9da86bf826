"""A hash network as an ONNX model, from raw input to packed codes."""

import copy
from pathlib import Path

import torch
from torch import nn

from skhash._io import check_folder

__all__ = ["export"]


def export(network, shape, path, weights=None):
    """Write a network, the threshold and the packing of bits as an ONNX model.

    Parameters
    ----------
    network : HashNetwork
        The network; it is left as it is.

    shape : tuple of int
        (n_features,) for feature rows, (height, width) for images.

    path : str or path-like
        File to write.

    weights : ndarray of shape (n_bits, n_outputs), default=None
        Linear map of the relaxed outputs, of whose result the signs are the code. None takes the
        signs of the network's output.

    Raises
    ------
    ImportError
        If onnx or onnxscript is missing.

    OSError
        If the file cannot be written.
    """
    check_folder(path)
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"to_onnx needs the package {error.name}; `pip install scikit-hash[onnx]` brings it."
        ) from error
    is_image = len(shape) == 2
    # Two samples: a batch of one would be taken for the only size there is.
    example = (
        torch.zeros((2, *shape, 3), dtype=torch.uint8) if is_image else torch.zeros(2, *shape)
    )
    network = copy.deepcopy(network).cpu()
    if weights is not None:
        network = nn.Sequential(network, _MappedCode(torch.tensor(weights, dtype=torch.float32)))
    model = _PackedCodes(network, is_image).eval()
    _replace_max_pooling(model)
    program = torch.onnx.export(
        model,
        (example,),
        input_names=["images" if is_image else "features"],
        output_names=["packed_codes"],
        dynamic_shapes=({0: torch.export.Dim("n_samples", min=1)},),
        dynamo=True,
        verbose=False,
    )
    program.save(Path(path))


class _MappedCode(nn.Module):
    """From the outputs of a network to a linear map of them, relaxed."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, projection):
        return torch.tanh(projection / 2) @ self.weights.T


class _PackedCodes(nn.Module):
    """From feature rows, or images (n, height, width, 3), to packed codes."""

    def __init__(self, network, is_image):
        super().__init__()
        self.network, self.is_image = network, is_image

    def forward(self, inputs):
        if self.is_image:
            inputs = inputs.permute(0, 3, 1, 2).float()
        bits = (self.network(inputs) >= 0).to(torch.int32)
        bits = nn.functional.pad(bits, (0, -bits.shape[1] % 8))
        # The first bit of a byte is its highest, as in numpy.packbits.
        weights = 2 ** torch.arange(7, -1, -1, dtype=torch.int32)
        return (bits.unflatten(1, (-1, 8)) * weights).sum(dim=2).to(torch.uint8)


def _replace_max_pooling(model):
    """Replace adaptive max pooling, which torch before 2.14 does not export, by the maximum."""
    for part in model.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.AdaptiveMaxPool2d) and child.output_size == 1:
                setattr(part, name, _GlobalMax())


class _GlobalMax(nn.Module):
    """The maximum of each channel of a feature map."""

    def forward(self, features):
        return features.amax(dim=(2, 3), keepdim=True)
