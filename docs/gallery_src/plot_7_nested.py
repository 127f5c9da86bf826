"""
One training, codes of several lengths
======================================

`NestedLoss` is a loss of the first bits as well as of all of them. After one training, `shorten`
gives a hasher of each length, so the length can be chosen last.
"""

from sklearn.datasets import load_digits

from skhash import DeepRankingHasher
from skhash.deep.losses import NestedLoss, TieAwareNDCGLoss
from skhash.metrics import RankingCurveDisplay

X, y = load_digits(return_X_y=True)
loss = NestedLoss(TieAwareNDCGLoss(), lengths=(8, 16, 32))
hasher = DeepRankingHasher(32, loss=loss, hidden_size=128, max_epochs=10, random_state=0)
hasher.fit(X[300:], y[300:])

# %%
# The first 8 bits of each code are a code of their own.

ax = None
for n_bits in (8, 16, 32):
    short = hasher.shorten(n_bits)
    display = RankingCurveDisplay.from_estimator(
        short, X[:300], y[:300], metric="ndcg", name=f"{n_bits} bits", ax=ax
    )
    ax = display.ax_
