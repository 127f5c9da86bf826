"""The loop: stages of epochs, epochs of steps, validation, checkpoints."""

import copy
import functools
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from skhash.deep._distributed import ALONE
from skhash.deep._inputs import FeatureRows, ImageArray, ImageFiles, flip_some, prefetched
from skhash.deep._progress import Reporter, spoken
from skhash.deep.sampling import epoch_batches

__all__ = ["BestWeights", "Stage", "Trainer", "new_history"]


@dataclass
class Stage:
    """Epochs in which one part of the network is trained.

    Parameters
    ----------
    forward : callable
        The part: maps a batch on the device to projections (n, n_bits).

    part : torch.nn.Module
        The module that has its parameters.

    source : FeatureRows, ImageArray or ImageFiles
        Its inputs, of all samples.

    n_epochs : int or None
        Number of epochs; None if the samples come in parts, each for one more epoch.

    set_mode : callable
        Puts the network into the mode in which this part is trained.

    trains_backbone : bool
        Whether the backbone is trained, and not only the head.

    offset : int
        Number of epochs in the stages before.

    augment : callable or None
        ``augment(inputs, n, rows)`` changes inputs on the device at random, which are the `rows`
        of a batch of `n`; None leaves them as they are.

    compiled : callable or None
        What `forward` is compiled to, which steps run instead; None runs `forward` itself.

    held_out : FeatureRows, ImageArray, ImageFiles or None
        The inputs of the samples that are scored, if they are others than those of `source`.

    name : str
        What is trained, in a word.
    """

    forward: Callable
    part: torch.nn.Module
    source: FeatureRows | ImageArray | ImageFiles
    n_epochs: int | None
    set_mode: Callable
    trains_backbone: bool
    offset: int = 0
    augment: Callable | None = None
    compiled: Callable | None = None
    held_out: FeatureRows | ImageArray | ImageFiles | None = None
    name: str = "network"

    @classmethod
    def of_head(cls, network, features, n_epochs, *, compiled, held_out=None):
        """Return the stage of the head of a network alone, on the features of its backbone."""
        return cls(
            network.project,
            network.head,
            features,
            n_epochs,
            network.train_head,
            trains_backbone=False,
            compiled=torch.compile(network.project) if compiled else None,
            held_out=held_out,
            name="head",
        )

    @classmethod
    def of_all(cls, network, source, n_epochs, *, offset, mirrored, compiled, held_out=None):
        """Return the stage of all of a network, images `mirrored` at random or not."""
        return cls(
            network,
            network,
            source,
            n_epochs,
            functools.partial(network.train_all, keep_statistics=offset > 0),
            trains_backbone=True,
            offset=offset,
            augment=flip_some if mirrored else None,
            compiled=torch.compile(network) if compiled else None,
            held_out=held_out,
        )

    @property
    def end(self):
        """The epoch after the last one."""
        return self.offset + self.n_epochs

    def where(self, epoch):
        """Return in words which of its epochs that of a number is."""
        number = epoch - self.offset + 1
        if self.n_epochs is None:
            return f"part {number}"
        return f"{self.name}, epoch {number} of {self.n_epochs}"


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

    draws : OwnDraws
        What training draws from; a checkpoint keeps its state.

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

    watcher : object, default=None
        Has ``begin_epoch(n_batches)``, which returns a task. Its ``begin_batch()`` is called
        before each batch, ``end_batch()`` and ``end()`` after a batch and after the epoch; they
        return whether the epoch, or the training, should stop.

    reporter : Reporter, default=None
        Is told what happens; None tells the log at the level of debugging.

    ranks : Ranks or Alone, default=ALONE
        The processes that train together, each on its share of a batch.

    keeps_on_interrupt : bool, default=False
        Whether a KeyboardInterrupt ends :meth:`run_stages` after the last whole epoch.

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
        draws,
        history,
        score=None,
        n_iter_no_change=1,
        tol=0.0,
        checkpoint=None,
        resumed=None,
        watcher=None,
        reporter=None,
        ranks=ALONE,
        keeps_on_interrupt=False,
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
        self.draws = draws
        self.watcher = watcher
        self.reporter = reporter or Reporter("Trainer", verbose=False)
        self.ranks = ranks
        self.keeps_on_interrupt = keeps_on_interrupt
        self.stopped = False
        self._resumed = resumed
        # The number of whole epochs and the weights after them, if these are to be kept.
        self._whole = None
        # The stage that runs, and what computes its steps.
        self._running = None, None

    def is_past(self, offset):
        """Return whether the checkpoint is of a later stage than the one that starts there."""
        return self._resumed is not None and self._resumed["stage"] > offset

    def run_stages(self, stages):
        """Run stages one after another.

        Parameters
        ----------
        stages : iterable of Stage
            Each is asked for when the one before has ended.

        Raises
        ------
        KeyboardInterrupt
            If the user interrupts, unless the last whole epoch is to be kept and there is one.
        """
        try:
            for stage in stages:
                self.run(stage)
        except KeyboardInterrupt:
            if self._whole is None:
                raise
            self._go_back()

    def run(self, stage):
        """Run the epochs of a stage that are left, and end with its best weights if scored."""
        n_batches = len(self._batches(0))
        solver = self.start_solver(stage, n_steps=stage.n_epochs * n_batches)
        best = BestWeights(self.n_iter_no_change, self.tol)
        parts = {"network": self.runner.network, "loss": self.loss, "solver": solver, "best": best}
        epoch = self._resume(stage, parts)
        self._keep_whole(best)
        work = self.reporter.work((stage.end - epoch) * n_batches)
        while epoch < stage.end and not (self.stopped or best.exhausted()):
            task = None if self.watcher is None else self.watcher.begin_epoch(n_batches)
            self.run_epoch(stage, solver, epoch, work=work, task=task)
            if self.score is not None:
                best.update(self.validate(stage), self.runner.network)
            self._keep_whole(best)
            self.stopped = task is not None and self.ranks.told(task.end)
            epoch += 1
            self._save(stage, parts, epoch)
        best.restore(self.runner.network)

    def _keep_whole(self, best):
        """Keep the weights that training would end with now, if an interrupt is to end it."""
        n_epochs = len(self.history["loss"])
        if not self.keeps_on_interrupt or not n_epochs:
            return
        weights = best.weights
        if weights is None:
            weights = copy.deepcopy(self.runner.network.state_dict())
        self._whole = n_epochs, weights

    def _go_back(self):
        """Take up the last whole epoch, and warn that training ends with it."""
        n_epochs, weights = self._whole
        self.runner.network.load_state_dict(weights)
        for values in self.history.values():
            del values[n_epochs:]
        warnings.warn(
            f"Training was interrupted by the user. What it had learnt after epoch {n_epochs} of "
            f"{self.n_epochs} is kept.",
            stacklevel=2,
        )

    def start_solver(self, stage, *, n_steps=None):
        """Return a new solver for a stage; without `n_steps`, its rates do not change."""
        return self.solver.start(
            self.runner.network, self.loss, trains_backbone=stage.trains_backbone, n_steps=n_steps
        )

    def run_epoch(self, stage, solver, epoch, *, work=None, task=None):
        """Go through all batches once, and note the mean loss.

        Parameters
        ----------
        stage : Stage
            What is trained.

        solver : StartedSolver
            What takes the steps.

        epoch : int
            Number of the epoch, which decides its batches.

        work : Work, default=None
            The batches of which these are a part; None makes them one of their own.

        task : object, default=None
            What `watcher` returned for the epoch.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        started, rate = time.perf_counter(), solver.rate
        work = work or self.reporter.work(len(self._batches(epoch)))
        stage.set_mode()
        loss = torch.stack(self._run_steps(stage, solver, epoch, work, task)).mean().item()
        if not math.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss is {loss} ({stage.where(epoch)}). A smaller "
                f"learning_rate than {self.solver.learning_rate} would do."
            )
        seconds = time.perf_counter() - started
        for name, value in (("loss", loss), ("learning_rate", rate), ("seconds", seconds)):
            self.history[name].append(value)
        self._say(stage.where(epoch), loss, rate, f", {spoken(seconds)}{work.left()}")

    def _run_steps(self, stage, solver, epoch, work, task):
        """Take a step for each batch; return the losses."""
        batches, losses = self._batches(epoch), []
        n_all = len(batches) * max(1, self.n_epochs)
        own = [rows[self.ranks.share(len(rows))] for rows in batches]
        if min(map(len, batches)) < self.ranks.size:
            raise ValueError(
                f"A batch should have a sample for each of {self.ranks.size} processes, got "
                f"{min(map(len, batches))} samples. Raise batch_size, or start fewer processes."
            )
        for rows, inputs in zip(batches, prefetched(stage.source, own), strict=True):
            if task is not None:
                task.begin_batch()
            rate, progress = solver.rate, min(1.0, (epoch * len(batches) + len(losses)) / n_all)
            losses.append(self._step(stage, solver, rows, inputs, progress))
            if work.step():
                where = f"{stage.where(epoch)}, batch {len(losses)} of {len(batches)}"
                self._say(where, losses[-1].item(), rate, work.left())
            if task is not None and self.ranks.told(task.end_batch):
                break
        return losses

    def _step(self, stage, solver, rows, inputs, progress):
        """Take a step along the gradients of one batch; return its loss."""
        with self.draws.active():
            loss = self._batch_loss(stage, rows, inputs, progress)
            loss.backward()
            self.ranks.average(self.loss.parameters())
            solver.step()
        # A module that draws for its share alone is not to set the processes apart.
        self.ranks.follow(self.draws.states)
        return loss.detach()

    def _batch_loss(self, stage, rows, inputs, progress):
        """Return the loss of one batch."""
        n, inputs = len(rows), self.runner.to_device(inputs)
        if stage.augment is not None:
            inputs = stage.augment(inputs, n, self.ranks.share(n))
        with self.runner.autocast():
            projection = self._forward(stage)(inputs, n)
        projection = projection.to(torch.promote_types(projection.dtype, torch.float32))
        labels = torch.from_numpy(self.labels[rows]).to(projection.device, torch.float32)
        return self.loss(self.ranks.gathered(projection, n), labels, progress)

    def _forward(self, stage):
        """Return what maps inputs, and the size of the batch, to projections in the steps."""
        if self._running[0] is not stage:
            # A compiled network is asked for its length where it is taken for true or false.
            forward = stage.forward if stage.compiled is None else stage.compiled
            self._running = stage, self.ranks.wrapped(stage.part, forward)
        return self._running[1]

    def _batches(self, epoch):
        """Return the rows of each batch of an epoch."""
        batches = epoch_batches(len(self.rows), self.batch_size, seed=self.seed, epoch=epoch)
        return [self.rows[batch] for batch in batches]

    def validate(self, stage):
        """Score the projections of the held-out samples, note the score and return it."""
        self.runner.network.eval()
        source = stage.source if stage.held_out is None else stage.held_out
        with self.draws.active():
            projection = self.runner.run(
                stage.forward, source, self.score.rows, what="held-out samples"
            )
        score = self.ranks.agreed(self.score(projection))
        self.history["validation_score"].append(score)
        self.reporter.say(f"{self.score} {score:.4f}")
        return score

    def _say(self, where, loss, rate, more):
        self.reporter.say(f"{where}: loss {loss:.4f}, rate {rate:.3g}{more}")

    def _save(self, stage, parts, epoch):
        """Write all that decides how training goes on, if there is a checkpoint to write."""
        if self.checkpoint is not None:
            self.ranks.told(lambda: self._write(stage, parts, epoch))

    def _write(self, stage, parts, epoch):
        state = {name: part.state_dict() for name, part in parts.items()}
        state |= {"stage": stage.offset, "epoch": epoch, "stopped": self.stopped}
        state["generators"] = self.draws.states
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
        self.draws.states = state["generators"]
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
