"""
Choose a radius
===============

To look up all codes within a Hamming radius is an alternative to a fixed number of results. Each
point of a curve is a radius. A larger one finds more of what is relevant, and more of what is not.
"""

from sklearn.datasets import load_digits

from skhash import CCAITQHasher, ITQHasher
from skhash.metrics import PrecisionRecallDisplay
from skhash.neighbors import HammingNeighbors

X, y = load_digits(return_X_y=True)
ax = None
for hasher in (CCAITQHasher(9, random_state=0), ITQHasher(32, random_state=0)):
    hasher.fit(X[300:], y[300:])
    ax = PrecisionRecallDisplay.from_estimator(hasher, X[:300], y[:300], ax=ax).ax_

# %%
# Hollow points are radii within which some queries find nothing. The last hasher, searched within
# 6 bits:

search = HammingNeighbors(radius=6).fit(hasher.transform(X[300:]))
distances, rows = search.radius_neighbors(hasher.transform(X[:3]))
[len(found) for found in rows]
