"""What looks at a training from outside: the held-out score, and scikit-learn's callbacks."""

import copy

import numpy as np

from skhash.codes import pack_codes
from skhash.deep._heads import head_rotations, relaxed_codes
from skhash.metrics._problem import RetrievalProblem
from skhash.metrics._ranking import score_queries

__all__ = ["HeldOutScore", "Watcher"]

# An epoch of fewer batches is one step of a progress bar; each epoch of more has its own bar.
_MANY_BATCHES = 20


class HeldOutScore:
    """``NDCG@100`` of held-out samples: some as queries, the others as their database.

    Parameters
    ----------
    Y : ndarray of shape (n_samples, n_labels), dtype uint8
        Label indicators of all samples.

    queries, database : ndarray, integer
        Rows of the samples that are held out.

    n_bits : int
        Length of the codes.

    Attributes
    ----------
    rows : ndarray, integer
        Both, the queries first: what the score takes the projections of.
    """

    def __init__(self, Y, queries, database, n_bits):
        self.rows, self.n_queries = np.concatenate([queries, database]), len(queries)
        self.labels, self.n_bits = pack_codes(Y[self.rows]), n_bits

    def __call__(self, projection):
        if projection.shape[1] > self.n_bits:
            rotations = head_rotations(relaxed_codes(projection), self.n_bits)
            projection = relaxed_codes(projection, rotations)
        codes, n = pack_codes(projection >= 0), self.n_queries
        queries, database = (codes[:n], self.labels[:n]), (codes[n:], self.labels[n:])
        problem = RetrievalProblem.from_packed(*queries, *database, n_bits=self.n_bits)
        scores = score_queries(problem, "ndcg", k=100)
        return float(scores.mean())

    def __str__(self):
        return "NDCG@100 of held-out samples:"


class Watcher:
    """Shows the epochs of a training to the callbacks of scikit-learn."""

    def __init__(self, hasher, X, Y):
        self.hasher, self.X, self.Y = hasher, X, Y
        y = hasher.classes_[Y.argmax(axis=1)] if hasher._one_class_each else Y
        self.task = {"estimator": hasher, "X": X.given, "y": y}
        self.context = hasher._callback_fit_ctx.call_on_fit_task_begin(**self.task)

    def begin_epoch(self, n_batches):
        """Call the callbacks at the start of an epoch; return the task that it is."""
        n_batches = n_batches if n_batches >= _MANY_BATCHES else 0
        context = self.context.subcontext(task_name="epoch", max_subtasks=n_batches)
        context.call_on_fit_task_begin(**self.task)
        return _EpochTask(context, self)

    def attributes(self):
        """Return the attributes that `fit` would leave if it ended here."""
        hasher = copy.copy(self.hasher)
        # The other processes wait for what the callbacks say.
        vars(hasher).pop("_ranks", None)
        hasher.network_ = copy.deepcopy(hasher.network_.eval())
        hasher._n_features_out = hasher.n_bits
        hasher._fit_codes(self.X, self.Y)
        hasher._store_database(self.X, self.Y)
        names = {"network_", "head_rotations_", "code_moments_", "_code_lengths", "encoding_"}
        names |= {"database_codes_", "database_labels_", "database_ids_", "_n_features_out"}
        return {name: getattr(hasher, name) for name in names & vars(hasher).keys()}


class _EpochTask:
    """An epoch as a task of scikit-learn's callbacks, which has tasks if it has many batches."""

    def __init__(self, context, watcher):
        self.context, self.watcher, self.batch = context, watcher, None

    def begin_batch(self):
        """Call the callbacks at the start of a batch."""
        if self.context.max_subtasks:
            batch = self.context.subcontext(task_name="batch")
            self.batch = batch.call_on_fit_task_begin(estimator=self.watcher.hasher)

    def end_batch(self):
        """Call the callbacks at the end of a batch; return whether one wants to stop."""
        if self.batch is None:
            return False
        return self.batch.call_on_fit_task_end(estimator=self.watcher.hasher)

    def end(self):
        """Call the callbacks at the end of the epoch; return whether one wants to stop."""
        return self.context.call_on_fit_task_end(
            **self.watcher.task, reconstruction_attributes=self.watcher.attributes
        )
