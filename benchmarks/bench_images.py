"""How long it takes to look at image files, and to decode and resize them.

    python benchmarks/bench_images.py

Writes `measured/images.jsonl`: seconds of the processor a file, on one thread, by what is done and
the larger side of the image. The images are noise with the spectrum of photographs, whose power
falls with the square of the frequency, as JPEG files of quality 90.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _records import write_records
from PIL import Image

from skhash.deep._inputs import ImageFiles
from skhash.utils import find_unreadable_images

SIZES = (128, 500, 2000)
RESIZED = (224, 224)


def make_image(side, rng):
    """Return pixels of shape (3 / 4 of side, side, 3) with the spectrum of photographs."""
    height, width = side * 3 // 4, side
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency
    pixels = np.fft.irfft2(noise, (height, width))
    pixels = 128 + 50 * pixels / pixels.std(axis=(1, 2), keepdims=True)
    return np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def write_files(folder, side, n_files, n_images=20):
    """Write files, of which those after the first few are copies of them; return the paths."""
    rng, paths = np.random.default_rng(side), []
    for number in range(n_files):
        path = Path(folder) / f"{side}-{number}.jpg"
        if number < n_images:
            Image.fromarray(make_image(side, rng)).save(path, quality=90)
        else:
            path.write_bytes(paths[number % n_images].read_bytes())
        paths.append(path)
    return paths


def per_file(function, n_files, repeats=5):
    """Return the least time of the processor that a file took."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) / n_files


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    measured = Path(__file__).parent / "measured" / "images.jsonl"
    parser.add_argument("--output", type=Path, default=measured)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for side in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(folder, side, args.files)
            files = ImageFiles(paths, RESIZED)
            rows = np.arange(len(paths))
            seconds = {
                "look": per_file(
                    lambda p=paths: find_unreadable_images(p, decode=False), len(paths)
                ),
                "decode": per_file(lambda p=paths: find_unreadable_images(p), len(paths)),
                "decode and resize": per_file(lambda f=files, r=rows: f.batch(r), len(paths)),
            }
            size = sum(path.stat().st_size for path in paths) / len(paths)
        lines.append({"side": side, "bytes": round(size), "seconds": seconds})
        print(lines[-1])
    write_records(args.output, lines)


if __name__ == "__main__":
    main()
