"""The loop: stages of epochs, epochs of steps, validation, checkpoints."""

import copy
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from skhash.deep._inputs import FeatureRows, ImageArray, ImageFiles, flip_some, prefetched
from skhash.deep.sampling import epoch_batches

__all__ = ["BestWeights", "Stage", "Trainer", "new_history"]


@dataclass
class Stage:
    """Epochs in which one part of the network is trained.

    Parameters
    ----------
    forward : callable
        The part: maps a batch on the device to projections (n, n_bits).

    source : FeatureRows, ImageArray or ImageFiles
        Its inputs, of all samples.

    n_epochs : int
        Number of epochs.

    set_mode : callable
        Puts the network into the mode in which this part is trained.

    trains_backbone : bool
        Whether the backbone is trained, and not only the head.

    offset : int
        Number of epochs in the stages before.

    augment : callable or None
        Changes a batch on the device at random; None leaves it as it is.

    compiled : callable or None
        What `forward` is compiled to, which steps run instead; None runs `forward` itself.
    """

    forward: Callable
    source: FeatureRows | ImageArray | ImageFiles
    n_epochs: int
    set_mode: Callable
    trains_backbone: bool
    offset: int = 0
    augment: Callable | None = None
    compiled: Callable | None = None

    @classmethod
    def of_head(cls, network, features, n_epochs, *, compiled):
        """Return the stage of the head of a network alone, on the features of its backbone."""
        return cls(
            network.project,
            features,
            n_epochs,
            network.train_head,
            trains_backbone=False,
            compiled=torch.compile(network.project) if compiled else None,
        )

    @classmethod
    def of_all(cls, network, source, n_epochs, *, offset, mirrored, compiled):
        """Return the stage of all of a network, images `mirrored` at random or not."""
        return cls(
            network,
            source,
            n_epochs,
            functools.partial(network.train_all, keep_statistics=offset > 0),
            trains_backbone=True,
            offset=offset,
            augment=flip_some if mirrored else None,
            compiled=torch.compile(network) if compiled else None,
        )

    @property
    def end(self):
        """The epoch after the last one."""
        return self.offset + self.n_epochs


def new_history(*, scored):
    """Return an empty list for each thing that a training notes of its epochs."""
    names = ["loss", "learning_rate", "seconds"] + ["validation_score"] * scored
    return {name: [] for name in names}


class Trainer:
    """Trains a network by a loss.

    It knows neither the estimator nor what the network and the loss are.

    Parameters
    ----------
    runner : Runner
        The network on its device.

    loss : torch.nn.Module
        The started loss: ``loss(projection, labels, progress)`` returns a scalar.

    solver : AdamWSolver or PaperSolver
        Started anew for each stage.

    labels : ndarray of shape (n_samples, n_labels), dtype uint8
        Label indicators of the samples.

    rows : ndarray of shape (n_rows,), integer
        The samples that are learnt from.

    batch_size : int
        Most samples in a batch.

    seed : int
        Decides the batches, with the number of the epoch.

    n_epochs : int
        Number of epochs of all stages, by which the loss is told how far training is.

    history : dict of lists
        "loss", "learning_rate" and "seconds" of each epoch are appended to, and
        "validation_score" if there is `score`.

    score : callable, default=None
        Scores, after each epoch, the projections of the samples ``score.rows``, an ndarray of
        shape (n_rows, n_bits). A stage goes back to the weights of its best epoch.

    n_iter_no_change : int, default=1
        A stage ends after so many epochs in a row that have not improved the score.

    tol : float, default=0
        By how much the score has to rise to count as improved.

    checkpoint : Checkpoint, default=None
        Where the state is written after each epoch.

    resumed : dict, default=None
        The state to go on from, which the checkpoint had.

    generators : sequence of torch.Generator, default=()
        Generators that training draws from, whose state a checkpoint keeps.

    watcher : object, default=None
        Has ``begin_epoch()``, whose result is passed to ``end_epoch(task)``, which returns
        whether training should stop.

    report : callable, default=None
        Is given a line of text about each epoch.

    Attributes
    ----------
    stopped : bool
        Whether the watcher has asked to stop.
    """

    def __init__(
        self,
        runner,
        loss,
        solver,
        labels,
        rows,
        *,
        batch_size,
        seed,
        n_epochs,
        history,
        score=None,
        n_iter_no_change=1,
        tol=0.0,
        checkpoint=None,
        resumed=None,
        generators=(),
        watcher=None,
        report=None,
    ):
        self.runner = runner
        self.loss = loss
        self.solver = solver
        self.labels = labels
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.n_epochs = n_epochs
        self.history = history
        self.score = score
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.checkpoint = checkpoint
        self.generators = generators
        self.watcher = watcher
        self.report = report
        self.stopped = False
        self._resumed = resumed

    def is_past(self, offset):
        """Return whether the checkpoint is of a later stage than the one that starts there."""
        return self._resumed is not None and self._resumed["stage"] > offset

    def run(self, stage):
        """Run the epochs of a stage that are left, and end with its best weights if scored."""
        n_steps = stage.n_epochs * len(self._batches(0))
        solver = self.start_solver(stage, n_steps=n_steps)
        best = BestWeights(self.n_iter_no_change, self.tol)
        parts = {"network": self.runner.network, "loss": self.loss, "solver": solver, "best": best}
        epoch = self._resume(stage, parts)
        while epoch < stage.end and not (self.stopped or best.exhausted()):
            task = None if self.watcher is None else self.watcher.begin_epoch()
            self.run_epoch(stage, solver, epoch)
            if self.score is not None:
                best.update(self.validate(stage), self.runner.network)
            self.stopped = self.watcher is not None and self.watcher.end_epoch(task)
            epoch += 1
            self._save(stage, parts, epoch)
        best.restore(self.runner.network)

    def start_solver(self, stage, *, n_steps=None):
        """Return a new solver for a stage; without `n_steps`, its rates do not change."""
        return self.solver.start(
            self.runner.network, self.loss, trains_backbone=stage.trains_backbone, n_steps=n_steps
        )

    def run_epoch(self, stage, solver, epoch):
        """Go through all batches once, and note the mean loss.

        Parameters
        ----------
        stage : Stage
            What is trained.

        solver : StartedSolver
            What takes the steps.

        epoch : int
            Number of the epoch, which decides its batches.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        started, rate = time.perf_counter(), solver.rate
        stage.set_mode()
        loss = torch.stack(self._run_steps(stage, solver, epoch)).mean().item()
        if not math.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss of epoch {epoch} is {loss}. A smaller "
                f"learning_rate than {self.solver.learning_rate} would do."
            )
        seconds = time.perf_counter() - started
        for name, value in (("loss", loss), ("learning_rate", rate), ("seconds", seconds)):
            self.history[name].append(value)
        self._say(f"epoch {epoch}: loss {loss:.4f}")

    def _run_steps(self, stage, solver, epoch):
        """Take a step for each batch; return the losses."""
        batches, losses = self._batches(epoch), []
        n_all = len(batches) * max(1, self.n_epochs)
        for rows, inputs in zip(batches, prefetched(stage.source, batches), strict=True):
            progress = min(1.0, (epoch * len(batches) + len(losses)) / n_all)
            loss = self._batch_loss(stage, rows, inputs, progress)
            loss.backward()
            solver.step()
            losses.append(loss.detach())
        return losses

    def _batch_loss(self, stage, rows, inputs, progress):
        """Return the loss of one batch."""
        inputs = self.runner.to_device(inputs)
        if stage.augment is not None:
            inputs = stage.augment(inputs)
        with self.runner.autocast():
            projection = (stage.compiled or stage.forward)(inputs)
        labels = torch.from_numpy(self.labels[rows]).to(projection.device, torch.float32)
        return self.loss(projection.float(), labels, progress)

    def _batches(self, epoch):
        """Return the rows of each batch of an epoch."""
        batches = epoch_batches(len(self.rows), self.batch_size, seed=self.seed, epoch=epoch)
        return [self.rows[batch] for batch in batches]

    def validate(self, stage):
        """Score the projections of the held-out samples, note the score and return it."""
        self.runner.network.eval()
        score = self.score(self.runner.run(stage.forward, stage.source, self.score.rows))
        self.history["validation_score"].append(score)
        self._say(f"{self.score} {score:.4f}")
        return score

    def _say(self, text):
        if self.report is not None:
            self.report(text)

    def _save(self, stage, parts, epoch):
        """Write all that decides how training goes on, if there is a checkpoint to write."""
        if self.checkpoint is None:
            return
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"stage": stage.offset, "epoch": epoch, "stopped": self.stopped}
        state["generators"] = [generator.get_state() for generator in self.generators]
        self.checkpoint.save(state | {"history": self.history})

    def _resume(self, stage, parts):
        """Take up what the checkpoint has of this stage; return the epoch to go on with."""
        state = self._resumed
        if state is None or state["stage"] != stage.offset:
            return stage.offset
        self._resumed = None
        for name, part in parts.items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"The checkpoint {str(self.checkpoint.path)!r} is of another training: its "
                    f"{name} does not fit. Set checkpoint_dir to another directory. {error}"
                ) from error
        for generator, its_state in zip(self.generators, state["generators"], strict=True):
            generator.set_state(its_state)
        for name, values in state["history"].items():
            self.history[name][:] = values
        self.stopped = state["stopped"]
        return state["epoch"]


class BestWeights:
    """The weights of a network at its best score, and whether it is time to stop.

    Parameters
    ----------
    n_iter_no_change : int
        Stop once so many scores in a row have not exceeded the best one by more than `tol`.

    tol : float
        What counts as an improvement.
    """

    def __init__(self, n_iter_no_change, tol):
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.score, self.weights, self.n_without = -math.inf, None, 0

    def update(self, score, network):
        """Take note of the score of the network as it is."""
        self.n_without = 0 if score > self.score + self.tol else self.n_without + 1
        if score > self.score:
            self.score, self.weights = score, copy.deepcopy(network.state_dict())

    def exhausted(self):
        """Return whether nothing has improved for long enough."""
        return self.n_without >= self.n_iter_no_change

    def state_dict(self):
        """Return what was noted."""
        return {"score": self.score, "weights": self.weights, "n_without": self.n_without}

    def load_state_dict(self, state):
        """Go on from what was noted."""
        self.score, self.weights = state["score"], state["weights"]
        self.n_without = state["n_without"]

    def restore(self, network):
        """Give the network its best weights, if any score was noted."""
        if self.weights is not None:
            network.load_state_dict(self.weights)
