"""
Compare hashers
===============

Hashers that learn from labels, and hashers that do not, on handwritten digits. The first 300
digits are queries. The others are what is learnt from, and what is searched.
"""

from sklearn.datasets import load_digits

from skhash import CCAITQHasher, ITQHasher, KSHHasher, LSHHasher, SDHHasher
from skhash.metrics import RankingCurveDisplay

X, y = load_digits(return_X_y=True)
hashers = [
    SDHHasher(16, random_state=0),
    KSHHasher(16, random_state=0),
    CCAITQHasher(9, random_state=0),
    ITQHasher(16, random_state=0),
    LSHHasher(16, random_state=0),
]

# %%
# The share of the first results that show the digit of the query. Bands are intervals of the mean
# over queries.

ax = None
for hasher in hashers:
    hasher.fit(X[300:], y[300:])
    display = RankingCurveDisplay.from_estimator(
        hasher, X[:300], y[:300], metric="precision", confidence_level=0.95, ax=ax, title="Digits"
    )
    ax = display.ax_

# %%
# CCA-ITQ has at most as many bits as there are classes, less one: there are no more directions
# that tell classes apart. So it has 9 here.
#
# One number for each:

for hasher in hashers:
    print(f"{type(hasher).__name__:13} {hasher.score(X[:300], y[:300]):.2f}")
