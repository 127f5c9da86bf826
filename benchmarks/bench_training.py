"""Time an epoch of `DeepRankingHasher`, and `transform`, against bare PyTorch loops.

    python benchmarks/bench_training.py

An epoch is that of the trainer which `fit` runs, with its default loss. The bare epoch is the
shortest loop over a tensor that trains the same network with the same loss, batch size, solver
and precision; the bare forward pass runs the network over batches
under ``torch.inference_mode``. Both sides are timed in turns in one process and the median of the
ratios of neighbouring runs is printed, with the smallest and the largest.

Then the peak of memory of one epoch of each side, in a process of its own: of the process (on
Linux), or on a GPU of what torch allocates there. And what value and gradient of the ranking loss
cost for one list of 100,000 items, beside the forward pass of a batch of 128 images. Run it on an
idle machine. Each line is also appended to `measured/training.jsonl`.
"""

import argparse
import multiprocessing
import re
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _records import append_record

from skhash import DeepRankingHasher
from skhash.deep._devices import OwnDraws
from skhash.deep._inputs import FeatureRows, ImageArray
from skhash.deep._runner import Runner
from skhash.deep._solvers import AdamWSolver
from skhash.deep._trainer import Stage, Trainer, new_history
from skhash.deep.losses import RankingLoss, ranking_loss, start_loss

# Settings of both sides.
LEARNING_RATE, WEIGHT_DECAY, MARGIN, BALANCE = 1e-3, 5e-4, 3.75, 0.1
# The head of the paper, and codes that are signs of its output.
HEAD = {"taps": "both", "input_dropout": 0.0, "encoding": "signs", "n_heads": 1}


def cases(names):
    """Yield name, hasher, X and Y of each case."""
    rng = np.random.default_rng(0)
    if "mlp" in names:
        X = rng.standard_normal((8000, 1280), dtype=np.float32)
        yield "mlp, 1280 features", DeepRankingHasher(48, **HEAD), X, _labels(rng, 8000)
    if "convnet" in names:
        X = rng.integers(0, 256, (1500, 32, 32, 3), dtype=np.uint8)
        yield "convnet, 32 px", DeepRankingHasher(48, **HEAD), X, _labels(rng, 1500)
    if "efficientnet" in names:
        from _efficientnet import PIXELS, efficientnet_lite0

        X = rng.integers(0, 256, (512, 128, 128, 3), dtype=np.uint8)
        hasher = DeepRankingHasher(48, network=efficientnet_lite0, normalization=PIXELS, **HEAD)
        yield "efficientnet-lite0, 128 px", hasher, X, _labels(rng, 512)


def _labels(rng, n_samples):
    """Return random label sets, 38 labels of which each sample has about 4."""
    return (rng.random((n_samples, 38)) < 0.1).astype(np.uint8)


def runner_of(hasher, *, images):
    """Return what runs the network of the hasher."""
    return Runner(hasher.network_, images=images, precision="auto", batch_size=hasher.batch_size)


def trainer_epoch(hasher, X, Y):
    """Train one epoch as `fit` does."""
    images, device = X.ndim == 4, hasher.network_.device
    source = ImageArray(X, X.shape[1:3]) if images else FeatureRows(X, hasher.mean_, hasher.scale_)
    draws = OwnDraws(0, device)
    with draws.active():
        loss = start_loss(RankingLoss(margin=MARGIN, balance=BALANCE), hasher.n_bits, Y, device)
    trainer = Trainer(
        runner_of(hasher, images=images),
        loss,
        AdamWSolver(LEARNING_RATE, "auto", WEIGHT_DECAY, head_is_trained=False),
        Y,
        np.arange(len(X)),
        batch_size=hasher.batch_size,
        seed=0,
        n_epochs=1,
        draws=draws,
        history=new_history(scored=False),
    )
    stage = Stage.of_all(hasher.network_, source, 1, offset=0, mirrored=images, compiled=False)
    trainer.run_epoch(stage, trainer.start_solver(stage), 0)


def bare_epoch(hasher, inputs, Y):
    """Train one epoch with nothing around it."""
    network = hasher.network_.train()
    runner = runner_of(hasher, images=inputs.ndim == 4)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    labels = torch.from_numpy(Y).to(inputs.device, torch.float32)
    others = ~torch.eye(hasher.batch_size, dtype=torch.bool, device=inputs.device)
    for rows in torch.randperm(len(inputs), device=inputs.device).split(hasher.batch_size):
        batch, y = inputs[rows], labels[rows]
        if inputs.ndim == 4:
            flip = torch.rand(len(batch)) < 0.5
            batch[flip] = batch[flip].flip(-1)
        with runner.autocast():
            projection = network(batch)
        h = torch.tanh(projection.float() / 2)
        pairs = others[: len(h), : len(h)]
        distances = ((hasher.n_bits - h @ h.T) / 2)[pairs].view(len(h), -1)
        relevance = (y @ y.T).long()[pairs].view(len(h), -1)
        loss = ranking_loss(distances, relevance, margin=MARGIN).sum()
        loss = loss / (y.any(dim=1).sum().clamp(min=1) * distances.shape[1])
        loss = loss + BALANCE / 2 * h.mean(dim=0).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def bare_forward(hasher, inputs):
    """Run the network over all inputs, in batches of the size that `transform` takes."""
    network = hasher.network_.eval()
    size = hasher.batch_size if inputs.ndim == 4 else 4096
    with runner_of(hasher, images=inputs.ndim == 4).autocast():
        return torch.cat([network(batch).float() for batch in inputs.split(size)])


def ratios(candidate, reference, n_repeats, synchronize):
    """Return the ratios of time of neighbouring runs, after one of each to warm up."""
    values = []
    for repeat in range(n_repeats + 1):
        seconds = []
        for function in (candidate, reference):
            synchronize()
            started = time.perf_counter()
            function()
            synchronize()
            seconds.append(time.perf_counter() - started)
        if repeat:
            values.append((seconds[0] / seconds[1], *seconds))
    return values


def ready(hasher, X, Y):
    """Make the network, and return the input of the bare loop and what waits for the device."""
    hasher.set_params(max_epochs=0, random_state=0).fit(X[:256], Y[:256])
    hasher.max_epochs = 1
    device = hasher.network_.device
    inputs = torch.from_numpy(X).to(device)
    inputs = inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs
    return inputs, torch.cuda.synchronize if device.type == "cuda" else lambda: None


def peak_memory(case, side):
    """Return the peak of memory of one epoch, in MiB."""
    ((_, hasher, X, Y),) = cases([case])
    inputs, _ = ready(hasher, X, Y)
    trainer_epoch(hasher, X, Y) if side == "skhash" else bare_epoch(hasher, inputs, Y)
    if inputs.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # Of this program alone, where `getrusage` also counts what its parent had when it started it.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10


def compare_memory(name, case, output):
    """Print and write the peaks of both sides."""
    # A new process for each: a peak never falls.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        ours, bare = pool.starmap(peak_memory, [(case, "skhash"), (case, "bare")], chunksize=1)
    print(f"{name:<28}{'peak':<11}{ours:>6.0f} MiB{bare:>6.0f} MiB{ours / bare:>8.3f}")
    write(output, name=name, what="peak", MiB=ours, bare_MiB=bare, ratio=ours / bare)


def compare_long_list(hasher, inputs, n_repeats, synchronize, output):
    """Print and write the cost of one long list beside that of the forward pass of a batch."""
    distances = (48 * torch.rand(1, 100_000, device=inputs.device)).requires_grad_()
    relevance = torch.randint(0, 5, (1, 100_000), device=inputs.device)
    values = ratios(
        lambda: ranking_loss(distances, relevance, margin=3.75).sum().backward(),
        lambda: bare_forward(hasher, inputs[:128]),
        n_repeats,
        synchronize,
    )
    report("list of 100,000 items", "loss", values, output)


def report(name, what, values, output, **more):
    """Print and write one line of the table."""
    quotients, ours, bare = zip(*values, strict=True)
    print(
        f"{name:<28}{what:<11}{median(ours):>8.3f} s{median(bare):>8.3f} s"
        f"{median(quotients):>8.3f}  ({min(quotients):.3f} to {max(quotients):.3f})"
    )
    seconds = {"seconds": median(ours), "bare_seconds": median(bare)}
    spread = {"ratio": median(quotients), "least": min(quotients), "largest": max(quotients)}
    write(output, name=name, what=what, **more, **seconds, **spread)


def write(output, **record):
    """Append a line to the raw results."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    place = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    append_record(output, record | place)


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["mlp", "convnet", "efficientnet"]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--repeats", type=int, default=7)
    output = Path(__file__).parent / "measured" / "training.jsonl"
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    print(f"{'network':<28}{'':<11}{'skhash':>10}{'bare':>10}{'ratio':>8}  (range)")
    for case in args.cases:
        ((name, hasher, X, Y),) = cases([case])
        inputs, synchronize = ready(hasher, X, Y)
        epochs = ratios(
            lambda: trainer_epoch(hasher, X, Y),  # noqa: B023
            lambda: bare_epoch(hasher, inputs, Y),  # noqa: B023
            args.repeats,
            synchronize,
        )
        report(name, "epoch", epochs, args.output, n_samples=len(X))
        compare_memory(name, case, args.output)
        forwards = ratios(
            lambda: hasher.transform(X),  # noqa: B023
            lambda: bare_forward(hasher, inputs),  # noqa: B023
            args.repeats,
            synchronize,
        )
        report(name, "transform", forwards, args.output, n_samples=len(X))
        if case == "efficientnet":
            compare_long_list(hasher, inputs, args.repeats, synchronize, args.output)


if __name__ == "__main__":
    main()
