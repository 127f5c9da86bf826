"""Training in parts: one epoch on each part, where network, loss and solver go on."""

import copy
import math

import numpy as np
import torch

from skhash._samples import check_minimum
from skhash.base import PartialFitMixin
from skhash.deep._devices import OwnDraws, draw_seed, resolve_device
from skhash.deep._parameters import check_effects
from skhash.deep._rows import check_varies
from skhash.deep._together import check_alike, together
from skhash.deep._trainer import new_history

__all__ = ["TrainsInPartsMixin"]


class TrainsInPartsMixin(PartialFitMixin):
    """Mixin of a hasher with a `network_`, which its `_trainer` trains stage by stage."""

    def _has_parts(self):
        return hasattr(self, "network_")

    @torch.inference_mode(False)
    def _learn_part(self, X, Y, first):
        with together(self):
            check_alike(self._ranks, self, resolve_device(self.device), X=X, y=Y)
            self._learn_together(X, Y, first)

    def _learn_together(self, X, Y, first):
        """Do the work of `_learn_part`."""
        check_minimum(len(X), 2, self)
        check_effects(self, self._chosen_network())
        if not first and self.network_.n_bits != self.n_bits:
            raise ValueError(
                f"partial_fit goes on with a network of n_bits={self.network_.n_bits}, got n_bits="
                f"{self.n_bits}; fit, or a clone of the hasher, would start afresh."
            )
        # Copies: an error is to leave what the last call left.
        state = copy.deepcopy(getattr(self, "_partial", None))
        if state is None:
            seed = self._ranks.agreed(draw_seed(self.random_state))
            state = {"seed": seed, "n_calls": 0, "loss": None}
        device = resolve_device(self.device)
        draws = OwnDraws([state["seed"], state["n_calls"]], device)
        with draws.active():
            if first:
                check_varies(X)
                self.history_ = new_history(scored=False)
                self._build(X, device)
            self.history_, self.network_ = copy.deepcopy((self.history_, self.network_))
            self.loss_curve_ = self.history_["loss"]
            self.network_.to(device)
            if state["loss"] is None:
                state["loss"] = self._start_loss(self._chosen_loss(Y), Y, device)
        self._train_part(X, Y, state, device, draws)
        self.network_.eval()
        self._fit_codes(X, Y)
        self.n_iter_ = len(self.loss_curve_)
        state["n_calls"] += 1
        self._partial = state

    def _train_part(self, X, Y, state, device, draws):
        """Train one epoch; loss and solver go on from the state of the last call."""
        loss, rows, n_epochs = state["loss"].to(device), np.arange(len(X)), self._n_epochs(len(X))
        trainer = self._trainer(loss, Y, rows, state["seed"], n_epochs, draws=draws)
        stage = self._full_stage(X, None, offset=0)
        solver = trainer.start_solver(stage)
        # What one solver keeps of its steps means nothing to another.
        if state.get("optimizer") == self.optimizer:
            solver.take_memory(state["solver"])
        trainer.run_epoch(stage, solver, state["n_calls"])
        if "validation_score" in self.history_:
            self.history_["validation_score"].append(math.nan)
        state |= {"optimizer": self.optimizer, "solver": solver.memory()}
