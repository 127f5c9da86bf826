"""How long it takes to read image files, and how many bits another way of resizing changes.

    python benchmarks/bench_images.py [time] [bits]

`time` writes `measured/images.jsonl`: seconds of the processor a file, on one thread, by what is
done and the larger side of the image. The images are noise with the spectrum of photographs, whose
power falls with the square of the frequency, as JPEG files of quality 90.

`bits` writes `measured/resizing.jsonl`: of codes of digit scenes that were not trained on, the
share of bits that differ from those of `transform` if another program has resized the scene.
The network is a small one, trained for 30 epochs on 500 other scenes of the same size.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _records import write_records
from PIL import Image

from skhash import DeepRankingHasher
from skhash.datasets import make_digit_scenes
from skhash.deep._inputs import ImageFiles
from skhash.utils import find_unreadable_images

SIZES = (128, 500, 2000)
RESIZED = (224, 224)
SCENE_SIZES, SCENE_RESIZED = (36, 48, 96, 192), 24
N_TRAIN, N_COMPARED = 500, 1000


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


def times(n_files):
    """Yield seconds by the size of files."""
    for side in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(folder, side, n_files)
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
        yield {"side": side, "bytes": round(size), "seconds": seconds}


def by_pillow(images, size):
    """Resize with antialiasing."""
    small = (Image.fromarray(image).resize(size, Image.Resampling.BILINEAR) for image in images)
    return np.stack([np.asarray(image) for image in small])


def plainly(images, size):
    """Resize without antialiasing."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(pixels, size, mode="bilinear")
    return small.round().byte().permute(0, 2, 3, 1).numpy()


def differing_bits():
    """Yield the shares of bits that differ by the size of scenes."""
    size = (SCENE_RESIZED, SCENE_RESIZED)
    for side in SCENE_SIZES:
        images, y = make_digit_scenes(
            N_TRAIN + N_COMPARED, image_size=side, return_X_y=True, random_state=0
        )
        hasher = DeepRankingHasher(
            32,
            image_size=SCENE_RESIZED,
            max_epochs=30,
            precision="float32",
            device="cpu",
            random_state=0,
        ).fit(images[:N_TRAIN], y[:N_TRAIN])
        scenes = images[N_TRAIN:]
        expected = hasher.transform(scenes)
        for name, resize in [("Pillow", by_pillow), ("plain bilinear", plainly)]:
            share = (hasher.transform(resize(scenes, size)) != expected).mean()
            line = {"side": side, "resized": SCENE_RESIZED, "by": name}
            yield line | {"differing": float(share)}


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["time", "bits"], help="time, bits (both)")
    parser.add_argument("--files", type=int, default=200)
    measured = Path(__file__).parent / "measured"
    parser.add_argument("--output", type=Path, default=measured, help="folder of the files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    measures = {
        "time": ("images", lambda: times(args.files)),
        "bits": ("resizing", differing_bits),
    }
    for what in args.what:
        name, measure = measures[what]
        lines = []
        for line in measure():
            print(line)
            lines.append(line)
        write_records(args.output / f"{name}.jsonl", lines)


if __name__ == "__main__":
    main()
