"""Training as a whole: the parts that `fit` puts together, and the stages that it runs."""

import math

import numpy as np
import torch

from skhash.deep._checkpoint import open_checkpoint
from skhash.deep._devices import OwnDraws, draw_seed, resolve_device
from skhash.deep._distributed import ALONE
from skhash.deep._inputs import FeatureRows
from skhash.deep._parameters import check_effects, check_held_out, warn_of_random_features
from skhash.deep._progress import Reporter
from skhash.deep._rows import check_varies, mean_and_scale
from skhash.deep._solvers import AdamWSolver, PaperSolver
from skhash.deep._together import check_alike, has_callbacks, together
from skhash.deep._trainer import Stage, Trainer, new_history
from skhash.deep._watching import HeldOutScore, Watcher
from skhash.deep.losses import check_learnable, start_loss
from skhash.deep.sampling import held_out_rows, split_held_out

__all__ = ["TrainsMixin"]

# What "auto" is for `max_epochs`: so many epochs of images, so many of feature rows, of those at
# least so many steps.
_N_EPOCHS, _N_ROW_EPOCHS, _N_STEPS = 20, 40, 500


class TrainsMixin:
    """Mixin of a hasher which builds its `network_` in `_build` and names its loss."""

    # The processes that train together, while they do.
    _ranks = ALONE

    def fit(self, X, y=None, *, X_val=None, y_val=None):
        """Train the network, and keep the training set as the database.

        If `fit` raises, the hasher is left as it was before the call. Under ``torchrun`` the
        processes train one network together, see the user guide.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples: feature rows, or images in any of the forms of the notes.

        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Label sets as an indicator matrix of 0 and 1, or class labels. None is an error.

        X_val : array-like of shape (n_val, n_features), default=None
            Held-out samples for `early_stopping`, in any form that `X` may have: a fifth of them
            become queries, the others their database. None holds out `validation_fraction` of `X`.
            In a pipeline, ``Pipeline(..., transform_input=["X_val"])`` has them transformed as
            `X` is.

        y_val : {array-like, sparse matrix} of shape (n_val, n_labels), or array-like of shape \
                (n_val,), default=None
            Their label sets, in the form of `y`.

        Returns
        -------
        self : object
            The fitted hasher.

        Raises
        ------
        ValueError
            If a parameter is out of range, `X` or `y` is malformed, `y` is missing, or `X_val`
            and `y_val` are malformed, not both given, or given without `early_stopping`; or if
            processes that train together were not given the same.

        KeyboardInterrupt
            If the user interrupts, see `on_interrupt`.
        """
        self._given_held_out = (X_val, y_val)
        try:
            with together(self):
                return super().fit(X, y)
        finally:
            vars(self).pop("_given_held_out", None)

    def _before_fit(self):
        n_epochs = None if self.max_epochs == "auto" else self.head_epochs + self.max_epochs
        self._init_callback_context(max_subtasks=n_epochs)

    @torch.inference_mode(False)
    def _fit_once(self, X, y):
        names = ("network_", "mean_", "scale_") if self.warm_start else ()
        self._start_from = {name: vars(self)[name] for name in names if name in vars(self)}
        # What was learnt in parts ends here.
        vars(self).pop("_partial", None)
        super()._fit_once(X, y)
        self._callback_fit_ctx.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=dict
        )

    def _fit(self, X, Y):
        check_effects(self, self._chosen_network())
        device, ranks = resolve_device(self.device), self._ranks
        X_val, Y_val = self._validated_held_out()
        check_alike(ranks, self, device, X=X, y=Y, X_val=X_val, y_val=Y_val)
        seed = ranks.agreed(draw_seed(self.random_state))
        rows, score = self._split(X, Y, Y_val, seed)
        loss, n_epochs = self._chosen_loss(Y), self._n_epochs(len(X))
        check_varies(X)
        check_learnable(loss, Y[rows])
        start_from = vars(self).pop("_start_from").get("network_")
        if start_from is None:
            warn_of_random_features(self, self._chosen_network())
        params = self.get_params(deep=False)
        checkpoint = open_checkpoint(params, X, Y, device, n_epochs, X_val, Y_val)
        resumed = None if checkpoint is None else ranks.told(checkpoint.load)
        self.history_ = new_history(scored=self.early_stopping)
        self.loss_curve_ = self.history_["loss"]
        watcher, draws = Watcher(self, X, Y), OwnDraws(seed, device)
        with draws.active():
            self._build(X, device, start_from)
            started = self._start_loss(loss, Y[rows], device)
        trainer = self._trainer(
            started,
            Y,
            rows,
            seed,
            n_epochs,
            draws=draws,
            score=score,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            checkpoint=checkpoint,
            resumed=resumed,
            watcher=watcher if ranks.agreed(has_callbacks(self)) else None,
            keeps_on_interrupt=self.on_interrupt == "keep",
        )
        trainer.run_stages(self._stages(X, X_val, trainer, standardize=start_from is None))
        self.network_.eval()
        self._fit_codes(X, Y)
        self.n_iter_ = len(self.loss_curve_)

    def _validated_held_out(self):
        """Return the held-out samples and label sets that `fit` was given, or None and None."""
        X_val, y_val = vars(self).pop("_given_held_out", (None, None))
        if X_val is None and y_val is None:
            return None, None
        check_held_out(self, X_val, y_val)
        try:
            X_val = self._validate_X(X_val, reset=False)
            Y_val = self._encode_known(X_val, y_val)
        except ValueError as error:
            raise ValueError(f"X_val and y_val do not go with X and y: {error}") from error
        if len(X_val) < 2:
            raise ValueError(
                "X_val should have at least 2 samples, a query and a database of one; got "
                f"{len(X_val)}."
            )
        return X_val, Y_val

    def _split(self, X, Y, Y_val, seed):
        """Return the rows that are learnt from, and the score of what is held out, or None."""
        rows = np.arange(len(X))
        if not self.early_stopping:
            return rows, None
        if Y_val is not None:
            return rows, HeldOutScore(Y_val, *split_held_out(len(Y_val), seed=seed), self.n_bits)
        rows, *held_out = held_out_rows(len(X), self.validation_fraction, seed=seed)
        return rows, HeldOutScore(Y, *held_out, self.n_bits)

    def _start_loss(self, loss, Y, device):
        """Return the loss of one training, in which each head has its own."""
        return start_loss(loss, self.n_bits, Y, device, self._n_heads())

    def _n_epochs(self, n_samples):
        """Return `max_epochs`, "auto" replaced by the choice for the input."""
        if self.max_epochs != "auto":
            return self.max_epochs
        if self._chosen_network() != "mlp":
            return _N_EPOCHS
        return max(_N_ROW_EPOCHS, math.ceil(_N_STEPS / math.ceil(n_samples / self.batch_size)))

    def _trainer(self, loss, Y, rows, seed, n_epochs, **more):
        """Return what trains the network by a started loss."""
        rates = (self.learning_rate, self.backbone_learning_rate, self.weight_decay)
        solver = (
            PaperSolver(*rates)
            if self.optimizer == "sgd"
            else AdamWSolver(*rates, head_is_trained=self.head_epochs > 0)
        )
        return Trainer(
            self._runner(),
            loss,
            solver,
            Y,
            rows,
            batch_size=self.batch_size,
            seed=seed,
            n_epochs=self.head_epochs + n_epochs,
            history=self.history_,
            reporter=self._reporter(),
            ranks=self._ranks,
            **more,
        )

    def _reporter(self):
        return Reporter(type(self).__name__, self.verbose if self._ranks.is_first else False)

    def _stages(self, X, X_val, trainer, *, standardize):
        """Yield the stages that are left, each made when it is asked for."""
        if self.head_epochs and not trainer.is_past(0):
            yield self._head_stage(X, X_val, trainer, standardize=standardize)
        if self.max_epochs:
            n_epochs = self._n_epochs(len(X))
            yield self._full_stage(X, n_epochs, offset=self.head_epochs, held_out=X_val)

    def _head_stage(self, X, X_val, trainer, *, standardize):
        """Return the stage of the head alone, on features that are computed once."""
        network = self.network_.eval()
        features = _features(trainer, X)
        # Feature rows are standardised before they reach the network.
        if standardize and not hasattr(self, "mean_"):
            network.standardize(*mean_and_scale(features.given))
        return Stage.of_head(
            network,
            features,
            self.head_epochs,
            compiled=self.compile,
            held_out=None if X_val is None else _features(trainer, X_val),
        )

    def _full_stage(self, X, n_epochs, *, offset, held_out=None):
        """Return the stage of all of the network."""
        return Stage.of_all(
            self.network_,
            X,
            n_epochs,
            offset=offset,
            mirrored=self.flip in ("auto", True) and self._input_kind != "features",
            compiled=self.compile,
            held_out=held_out,
        )


def _features(trainer, X):
    """Return what the backbone makes of samples."""
    runner = trainer.runner
    with trainer.draws.active():
        return FeatureRows(runner.run(runner.network.features, X, what="features"))
