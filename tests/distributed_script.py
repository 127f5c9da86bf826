"""What `test_distributed.py` runs in one process and, under torchrun, in several.

    python distributed_script.py FOLDER NAME...

Each process writes what each function of these names returns to a file of its own.
"""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.callback import FitCallback
from sklearn.model_selection import cross_val_score
from torch import nn

from skhash import DeepRankingHasher
from skhash.deep import losses
from skhash.deep._devices import OwnDraws
from skhash.deep._distributed import joined_ranks
from skhash.deep._inputs import ImageArray, flip_some
from skhash.deep._runner import Runner
from skhash.deep._solvers import AdamWSolver
from skhash.deep._trainer import Stage, Trainer, new_history
from skhash.deep.networks import HashNetwork, TwoTapHead, build_network

RANK = int(os.environ.get("RANK", 0))
IS_RESTARTED = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
OWN = {"device": "cpu", "precision": "float32", "batch_size": 50, "random_state": 0}


def make_data():
    """Return feature rows, images and label sets of 150 samples."""
    rng = np.random.default_rng(0)
    Y = (rng.random((150, 6)) < 0.3).astype(np.uint8)
    rows = (Y @ rng.normal(size=(6, 20)) + rng.normal(size=(150, 20))).astype(np.float32)
    images = rng.integers(0, 128, (150, 16, 16, 3), dtype=np.uint8)
    images += 127 * Y[:, None, None, :3]
    return rows, images, Y


class Tokens(nn.Module):
    """A network that draws and normalises in many ways, with three rows for each image."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 4, stride=4)
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.4))

    def forward(self, images):
        images = nn.functional.dropout2d(images, 0.3, self.training)
        tokens = self.convolution(images).flatten(2)[:, :, :3].transpose(1, 2)
        tokens = self.layers(tokens.reshape(-1, 6)).view(len(images), 15)
        return tokens * kept_paths(tokens) if self.training else tokens


def kept_paths(samples):
    """Drop some samples as a whole, as networks of timm do."""
    return samples.new_empty(len(samples), 1).bernoulli_(0.8)


def make_cases():
    """Return hashers, and whether they take images, by what they are for."""
    early = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 2}
    # AdamW would make whole steps of gradients that are 0 but for rounding.
    images = {"loss": "ranking", "optimizer": "sgd", "max_epochs": 2}
    return {
        "rows": (DeepRankingHasher(16, loss="ranking", max_epochs=3, **OWN), False),
        "proxies": (DeepRankingHasher(16, loss="hyp2", max_epochs=3, **OWN), False),
        "centres": (DeepRankingHasher(16, loss="csq", max_epochs=3, **OWN), False),
        "early": (DeepRankingHasher(16, loss="ranking", max_epochs=20, **early, **OWN), False),
        "paper": (DeepRankingHasher.from_paper(16, network="mlp", max_epochs=2, **OWN), False),
        "images": (
            DeepRankingHasher(16, flip=True, dropout=0.3, taps="both", **images, **OWN),
            True,
        ),
        "head": (
            DeepRankingHasher(16, head_epochs=2, max_epochs=1, loss="ranking", **OWN),
            True,
        ),
        "own network": (
            DeepRankingHasher(16, network=Tokens, **images, **OWN),
            True,
        ),
    }


def fits(_=None):
    """Fit hashers, one after another in the same processes."""
    rows, images, Y = make_data()
    found = {}
    for name, (hasher, takes_images) in make_cases().items():
        X = images if takes_images else rows
        hasher.fit(X, Y)
        found[f"{name}, projection"] = hasher.project(X)
        found[f"{name}, database"] = hasher.database_codes_
        found[f"{name}, loss"] = np.array(hasher.loss_curve_)
    parts = DeepRankingHasher(16, loss="ranking", **OWN)
    parts.partial_fit(rows[:80], Y[:80]).partial_fit(rows[80:], Y[80:])
    found["parts, projection"] = parts.project(rows)
    hasher = DeepRankingHasher(16, loss="ranking", max_epochs=2, **OWN)
    found["cross-validation, scores"] = cross_val_score(hasher, rows, Y, cv=2)
    return found


def steps(_=None):
    """Take steps in float64, in which a hasher does not train."""
    return {
        f"{name}, {what}": value
        for name, loss, build in (
            ("ranking", "ranking", build_convnet),
            ("ndcg", "tie_aware_ndcg", build_convnet),
            ("proxies", "hyp2", build_convnet),
            ("own network", "csq", build_own),
        )
        for what, value in trained(loss, build).items()
    }


def build_convnet():
    return build_network("convnet", 16, input_shape=(3, 16, 16), taps="both", dropout=0.3)


def build_own():
    head = TwoTapHead(15, 16, hidden_size=32, dropout=0.3)
    return HashNetwork(Tokens(), head, n_features=15, mean=128.0, std=128.0)


def trained(loss, build, n_epochs=2):
    """Return losses and gradients of all steps, and statistics of batches at the end."""
    _, images, Y = make_data()
    cpu, ranks = torch.device("cpu"), joined_ranks()
    draws, history = OwnDraws(0, cpu), new_history(scored=False)
    with draws.active():
        network, started = build().double(), losses.start_loss(loss, 16, Y, cpu).double()
    stage = Stage(
        lambda inputs: network(inputs.double()),
        network,
        ImageArray(images),
        n_epochs,
        network.train,
        trains_backbone=True,
        augment=flip_some,
    )
    trainer = Trainer(
        Runner(network, images=True, precision="float32", batch_size=50, ranks=ranks),
        started,
        AdamWSolver(1e-3, "auto", 5e-4, head_is_trained=False),
        Y,
        np.arange(len(images)),
        batch_size=50,
        seed=0,
        n_epochs=n_epochs,
        draws=draws,
        history=history,
        ranks=ranks,
    )
    solver, gradients = NotedSolver(trainer.start_solver(stage), network, started), []
    solver.gradients = gradients
    for epoch in range(n_epochs):
        trainer.run_epoch(stage, solver, epoch)
    statistics = torch.cat([b.double().flatten() for b in network.buffers()]).numpy()
    return {
        "losses": np.array(history["loss"]),
        "gradients": np.stack(gradients),
        "statistics": statistics,
    }


class NotedSolver:
    """A started solver that notes the gradients of each step."""

    def __init__(self, solver, network, loss):
        self.solver, self.parameters = solver, [*network.parameters(), *loss.parameters()]

    @property
    def rate(self):
        return self.solver.rate

    def step(self):
        gradients = [parameter.grad.flatten() for parameter in self.parameters]
        self.gradients.append(torch.cat(gradients).numpy())
        self.solver.step()


class Note(FitCallback):
    """Notes in a file that it was called, and stops after so many epochs."""

    def __init__(self, file, n_epochs):
        self.file, self.n_epochs, self.n_ended = file, n_epochs, 0

    def setup(self, estimator, context):  # noqa: ARG002
        self.note("setup")

    def teardown(self, estimator, context):  # noqa: ARG002
        self.note("teardown")

    def on_fit_task_begin(self, estimator, context):  # noqa: ARG002
        self.note("begin")

    def on_fit_task_end(self, estimator, context, fitted_estimator=None):  # noqa: ARG002
        self.note("end" if fitted_estimator is None else "end, fitted")
        self.n_ended += context.task_name == "epoch"
        return self.n_ended >= self.n_epochs

    def note(self, what):
        with Path(self.file).open("a") as file:
            file.write(f"{what}\n")


def writers(folder):
    """Fit with a checkpoint, progress, and a callback that stops in the first process alone."""
    rows, _, Y = make_data()
    own = {**OWN, "random_state": 0, "verbose": True}
    directory = Path(folder, f"of-rank-{RANK}")
    hasher = DeepRankingHasher(
        16, loss="ranking", max_epochs=4, checkpoint_dir=directory / "checkpoint", **own
    )
    directory.mkdir()
    hasher.set_callbacks(Note(directory / "called", 2 if RANK == 0 else 1)).fit(rows, Y)
    # The callback is there still.
    assert len(hasher._skl_callbacks) == 1
    # A network of several processes is one of its own.
    hasher.save(directory / "hasher.skhash")
    return {"epochs": np.array(hasher.n_iter_)}


class Counted:
    """Images that count which of them were asked for."""

    def __init__(self, images):
        self.images, self.rows = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        self.rows.append(row)
        return self.images[row]


def readers(_=None):
    """Count the images that training reads, without those that are read before."""
    _, images, Y = make_data()
    n_read = []
    for n_epochs in (1, 3):
        X = Counted(images)
        hasher = DeepRankingHasher(16, image_size=16, max_epochs=n_epochs, **OWN)
        hasher.fit(X, Y)
        n_read.append(len(X.rows))
    return {"in two epochs": np.array(n_read[1] - n_read[0])}


def seedless(_=None):
    """Fit without a seed."""
    rows, _, Y = make_data()
    hasher = DeepRankingHasher(16, max_epochs=1, **(OWN | {"random_state": None})).fit(rows, Y)
    return {"projection": hasher.project(rows)}


def of_child(rows, Y):
    return DeepRankingHasher(16, loss="ranking", max_epochs=2, **OWN).fit(rows, Y).project(rows)


def children(_=None):
    """Fit in children of the first process alone, which are not to wait for the others."""
    if RANK:
        return {}
    rows, _, Y = make_data()
    (projection,) = Parallel(n_jobs=2)([delayed(of_child)(rows, Y)])
    return {"projection": projection}


def refusals(_=None):
    """Return the errors of processes that were given something else, or too little."""
    rows, _, Y = make_data()
    hasher = DeepRankingHasher(16, loss="ranking", max_epochs=1, **OWN)
    held_out = {"X_val": rows[RANK:50], "y_val": Y[RANK:50]}
    given = {
        "X": lambda: hasher.fit(rows + RANK, Y),
        "y": lambda: hasher.fit(rows, np.roll(Y, RANK, axis=0)),
        "X_val": lambda: hasher.set_params(early_stopping=True).fit(rows, Y, **held_out),
        "parameter": lambda: hasher.set_params(learning_rate=1e-3 + RANK).fit(rows, Y),
        "batch": lambda: hasher.set_params(learning_rate=1e-3).fit(rows[:3], Y[:3]),
        "keep": lambda: hasher.set_params(on_interrupt="keep").fit(rows, Y),
    }
    found = {}
    for name, fit in given.items():
        try:
            fit()
        except ValueError as error:
            found[name] = str(error)
        hasher.set_params(early_stopping=False)
    return found


@dataclass
class MortalLoss(losses.RankingLoss):
    """A loss in the midst of whose epoch the second process is killed, the first time it runs."""

    def batch_loss(self, projection, labels, progress, **memory):
        if RANK == 1 and not IS_RESTARTED and progress > 0.6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch_loss(projection, labels, progress, **memory)


def undisturbed(folder, loss="ranking"):
    """Train with a checkpoint."""
    rows, _, Y = make_data()
    directory = Path(folder, str(loss))
    began_with = (directory / "training.ckpt").exists()
    hasher = DeepRankingHasher(16, loss=loss, max_epochs=4, checkpoint_dir=directory, **OWN)
    hasher.fit(rows, Y)
    return {"projection": hasher.project(rows), "began with": np.array(began_with)}


def killed(folder):
    """Do the same, and be killed on the way the first time."""
    return undisturbed(folder, MortalLoss())


def main(folder, *names):
    torch.set_num_threads(1)
    for name in names:
        # After a restart the others are there.
        if name == "killed" or not IS_RESTARTED:
            np.savez(Path(folder, f"{name}-{RANK}.npz"), **globals()[name](folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
