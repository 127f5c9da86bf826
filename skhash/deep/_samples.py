"""What samples are to a deep hasher: validated, and codes of files of which some are damaged."""

from functools import partial

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from skhash._samples import check_minimum
from skhash._sklearn import StrOptions, validate_parameter_constraints
from skhash.deep._inputs import ImageArray, ImageFiles, ImageSequence, read_images
from skhash.deep._kinds import input_kind
from skhash.deep.networks import choose_image_size

__all__ = ["TakesSamplesMixin"]

_SOURCES = {"files": ImageFiles, "images": ImageArray, "image sequence": ImageSequence}
_CONSTRAINTS = {
    "method": [StrOptions({"encode_database", "transform"})],
    "on_error": [StrOptions({"raise", "skip"})],
}


class TakesSamplesMixin:
    """Mixin of a hasher with `image_size` and `network`, which encodes what is validated."""

    def _validate_X(self, X, *, reset):
        kind = input_kind(X)
        if reset:
            self._input_kind = kind
        elif (kind == "features") != (self._input_kind == "features"):
            raise ValueError(f"X should be {self._input_kind}, as in fit, got {kind}.")
        if kind == "features":
            return self._rows(super()._validate_X(X, reset=reset), learns=reset)
        source = _SOURCES[kind](X)
        check_minimum(len(source), 1 + reset, self)
        if reset:
            self.image_size_ = choose_image_size(self.image_size, self.network, source.native_size)
        source.size = self.image_size_
        return source

    def _file_reader(self):
        """Return what makes images, and faults, of a list of paths; None for feature rows."""
        if self._input_kind == "features":
            return None
        return partial(read_images, size=self.image_size_)

    def encode_files(self, paths, *, method="encode_database", on_error="raise"):
        """Binary codes of image files, where files that cannot be read may be left out.

        All files are looked at before the first is decoded: whether they are there, are empty,
        and have the header of an image. What only decoding can tell, such as that a file was cut
        off, shows on the way.

        Parameters
        ----------
        paths : array-like of shape (n_files,), of str or path-like
            Image files.

        method : {"encode_database", "transform"}, default="encode_database"
            The method that encodes: that for items to be found, or that for queries.

        on_error : {"raise", "skip"}, default="raise"
            What to do about a file that cannot be read: raise an error that names it, or leave
            it out.

        Returns
        -------
        encoded : :class:`~sklearn.utils.Bunch`
            `codes`, ndarray of shape (n_encoded, n_bits), dtype uint8, what `method` returns for
            the files that could be read; `indices`, ndarray of shape (n_encoded,), integer, their
            positions in `paths`, ascending; `skipped`, list of tuples (path, reason), both str,
            of the other files, in the order of `paths`.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        FileNotFoundError
            If files do not exist, with ``on_error="raise"``.

        ValueError
            If files cannot be read, with ``on_error="raise"``, `paths` are no paths, or the
            hasher was fitted on feature rows.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from skhash import DeepRankingHasher
        >>> from skhash.datasets import make_digit_scenes
        >>> images, Y = make_digit_scenes(100, return_X_y=True, random_state=0)
        >>> hasher = DeepRankingHasher(16, hidden_size=64, max_epochs=1, random_state=0)
        >>> hasher = hasher.fit(images, Y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = [Path(folder) / f"{i}.png" for i in range(4)]
        ...     for path, image in zip(paths, images):
        ...         Image.fromarray(image).save(path)
        ...     size = paths[2].write_bytes(b"")
        ...     encoded = hasher.encode_files(paths, on_error="skip")
        >>> encoded.codes.shape
        (3, 16)
        >>> encoded.indices
        array([0, 1, 3])
        >>> [(Path(path).name, reason) for path, reason in encoded.skipped]
        [('2.png', 'is empty')]
        """
        check_is_fitted(self)
        params = {"method": method, "on_error": on_error}
        validate_parameter_constraints(_CONSTRAINTS, params, caller_name="encode_files")
        if self._input_kind == "features":
            raise ValueError(
                f"encode_files encodes images, but this {type(self).__name__} was fitted on "
                "feature rows. Encode features of the files with transform or encode_database."
            )
        if (kind := input_kind(paths)) != "files":
            raise ValueError(
                f"paths should be a sequence of paths of image files, got {kind}; transform and "
                "encode_database take images of other forms."
            )
        source = ImageFiles(paths, self.image_size_, skip=on_error == "skip")
        is_query = method == "transform"
        codes = self._project(source) >= 0 if is_query else self._encode_items(source)
        skipped = source.skipped or {}
        kept = np.setdiff1d(np.arange(len(source)), np.fromiter(skipped, np.int64, len(skipped)))
        return Bunch(
            codes=codes[kept].view(np.uint8),
            indices=kept,
            skipped=[(source.paths[row], skipped[row]) for row in sorted(skipped)],
        )
