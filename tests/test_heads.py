"""Several heads on one backbone: trained each on its own, then made one."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import ortho_group
from test_deep_hasher import make_hasher, make_images, make_rows, tiny_backbone

from skhash import DeepRankingHasher
from skhash.codes import pack_codes, unpack_codes
from skhash.deep._heads import head_rotations
from skhash.deep.losses import NestedLoss, RankingLoss


def make_heads(**params):
    return make_hasher(**{"n_heads": 3, "encoding": "joint"} | params)


def outputs_of(hasher, X):
    """Relaxed codes of each head, of shape (n_heads, n_samples, n_bits)."""
    rows = (X - hasher.mean_) / hasher.scale_ if X.ndim == 2 else X
    inputs = torch.tensor(rows, dtype=torch.float32)
    with torch.inference_mode():
        outputs = hasher.network_(inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs)
    relaxed = np.tanh(outputs.numpy().astype(np.float64) / 2)
    return np.stack(np.split(relaxed, len(hasher.network_.head), axis=1))


def test_rotated_heads_are_one():
    rng = np.random.default_rng(0)
    first = rng.uniform(-1, 1, (50, 6))
    heads = [first, *(first @ ortho_group.rvs(6, random_state=i) for i in range(3))]
    codes = np.hstack(heads)
    assert_allclose(codes @ head_rotations(codes, 6), first)


def test_no_other_rotation_is_nearer():
    rng = np.random.default_rng(0)
    codes = rng.uniform(-1, 1, (40, 10))
    rotation = 2 * head_rotations(codes, 5)[5:]
    assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-12)

    def error(rotation):
        return np.linalg.norm(codes[:, 5:] @ rotation - codes[:, :5])

    assert all(error(rotation) < error(ortho_group.rvs(5, random_state=i)) for i in range(100))


@pytest.mark.parametrize("make", [make_rows, make_images])
@pytest.mark.parametrize("encoding", ["signs", "joint"])
def test_codes_are_of_the_rotated_mean(make, encoding, tmp_path):
    X, Y = make()
    hasher = make_heads(encoding=encoding, precision="float32").fit(X, Y)
    heads = outputs_of(hasher, X)
    rotations = 3 * hasher.head_rotations_.reshape(3, 8, 8)
    assert_array_equal(rotations[0], np.eye(8))
    expected = np.mean([head @ r for head, r in zip(heads, rotations, strict=True)], axis=0)
    assert_allclose(hasher.relaxed_codes(X), expected, atol=1e-5)
    assert hasher.project(X).dtype == hasher.relaxed_codes(X).dtype == np.float32
    assert_array_equal(hasher.transform(X), hasher.project(X) >= 0)
    assert_array_equal(hasher.database_codes_, pack_codes(hasher.encode_database(X)))
    assert_array_equal(hasher.bit_weights(X), np.abs(hasher.project(X)))
    if encoding == "signs":
        assert_array_equal(hasher.project(X), hasher.relaxed_codes(X))
    hasher.save(tmp_path / "hasher")
    loaded = DeepRankingHasher.load(tmp_path / "hasher")
    assert_array_equal(loaded.project(X), hasher.project(X))
    assert_array_equal(loaded.encode_database(X), hasher.encode_database(X))


def test_heads_are_trained_on_their_own():
    X, Y = make_rows()
    hasher = make_heads().fit(X, Y)
    heads = outputs_of(hasher, X)
    assert all(np.abs(heads[i] - heads[j]).max() > 0.01 for i, j in [(0, 1), (0, 2), (1, 2)])
    # The gradient of Adam has no scale: the first head learns what it would learn alone, from
    # the same weights and batches.
    alone = make_hasher(encoding="signs").fit(X, Y)
    assert_allclose(heads[0], np.tanh(alone.project(X) / 2), atol=1e-4)
    assert_allclose(hasher.loss_curve_, alone.loss_curve_, rtol=0.3)


def test_more_heads_rank_better():
    X, Y = make_rows(400, 12)
    scores = {}
    for n_heads in (1, 6):
        of_seeds = []
        for seed in range(3):
            params = {"hidden_size": 32, "max_epochs": 10, "random_state": seed}
            hasher = make_heads(n_heads=n_heads, **params).fit(X[:100], Y[:100])
            hasher.set_database(X[100:300], Y[100:300])
            of_seeds.append(hasher.score(X[300:], Y[300:]))
        scores[n_heads] = np.mean(of_seeds)
    assert scores[6] > scores[1] + 0.01


@pytest.mark.parametrize("encoding", ["signs", "joint"])
def test_shorter_codes_take_all_of_the_heads(encoding, tmp_path):
    X, Y = make_rows()
    hasher = make_heads(n_bits=9, encoding=encoding).fit(X, Y)
    short = hasher.shorten(4)
    assert_allclose(short.relaxed_codes(X), hasher.relaxed_codes(X)[:, :4], atol=1e-6)
    codes = unpack_codes(hasher.database_codes_, 9)
    assert_array_equal(short.database_codes_, pack_codes(codes[:, :4]))
    short.save(tmp_path / "short")
    loaded = DeepRankingHasher.load(tmp_path / "short")
    assert_array_equal(loaded.project(X), short.project(X))
    with pytest.raises(ValueError, match="goes on with a network of n_bits=9, got n_bits=4"):
        short.partial_fit(X, Y)


def test_a_nested_loss_of_each_head():
    X, Y = make_rows()
    nested = NestedLoss(RankingLoss(), lengths=(3, 8))
    hasher = make_heads(loss=nested).fit(X, Y)
    assert hasher.shorten(3).transform(X).shape == (60, 3)


def test_each_head_has_centres_of_its_own():
    hasher = make_heads(loss="csq").fit(*make_rows())
    assert np.isfinite(hasher.loss_curve_).all()


def test_onnx_has_all_heads(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    X, Y = make_rows()
    X = X.astype(np.float32)
    for encoding in ("signs", "joint"):
        hasher = make_heads(encoding=encoding).fit(X, Y)
        hasher.to_onnx(tmp_path / "model.onnx")
        session = runtime.InferenceSession(tmp_path / "model.onnx")
        (codes,) = session.run(None, {"features": X})
        assert_array_equal(codes, pack_codes(hasher.transform(X)))


def test_training_goes_on(tmp_path):
    X, Y = make_rows()
    whole = make_heads(max_epochs=4).fit(X, Y)
    kept = make_heads(max_epochs=4, checkpoint_dir=tmp_path).fit(X, Y)
    again = make_heads(max_epochs=4, checkpoint_dir=tmp_path).fit(X, Y)
    for hasher in (kept, again):
        assert_array_equal(hasher.project(X), whole.project(X))
    parts = make_heads().partial_fit(X[:30], Y[:30]).partial_fit(X[30:], Y[30:])
    assert parts.set_database(X, Y).score(X, Y) > 0
    warm = make_heads(warm_start=True).fit(X, Y)
    assert warm.fit(X, Y).loss_curve_[-1] < make_heads().fit(X, Y).loss_curve_[-1]


@pytest.mark.parametrize("head_epochs", [0, 2])
def test_early_stopping_scores_all_heads(head_epochs):
    X, Y = make_images(100)
    params = {"network": tiny_backbone, "head_epochs": head_epochs, "max_epochs": 3}
    hasher = make_heads(early_stopping=True, **params).fit(X, Y)
    assert len(hasher.history_["validation_score"]) == hasher.n_iter_


@pytest.mark.parametrize(
    ("make", "params", "n_heads"),
    [
        (make_rows, {}, 2),
        (make_rows, {"n_heads": 3}, 3),
        (make_rows, {"optimizer": "sgd"}, 1),
        (make_images, {}, 1),
        (make_images, {"network": tiny_backbone}, 1),
        (make_images, {"network": tiny_backbone, "head_epochs": 1}, 2),
    ],
)
def test_number_of_heads(make, params, n_heads):
    hasher = make_hasher(**{"n_heads": "auto", "encoding": "auto"} | params).fit(*make())
    assert hasher.network_.head(torch.zeros(1, hasher.network_.feature_mean.numel())).shape == (
        1,
        8 * n_heads,
    )
    assert hasattr(hasher, "head_rotations_") == (n_heads > 1)


def test_errors_on_the_number_of_heads():
    X, Y = make_rows()
    with pytest.raises(ValueError, match="'n_heads' parameter of DeepRankingHasher must be"):
        make_heads(n_heads=0).fit(X, Y)
    with pytest.raises(ValueError, match="n_heads=3 has no effect with optimizer='sgd'"):
        make_heads(optimizer="sgd").fit(X, Y)
