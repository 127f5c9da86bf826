"""
A map of codes
==============

`HammingNeighborsTransformer` makes the graph of the nearest codes, which estimators of
scikit-learn take with ``metric="precomputed"``: here t-SNE, which lays codes of 24 bits out in a
plane.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline

from skhash import SDHHasher
from skhash.neighbors import HammingNeighborsTransformer

X, y = load_digits(return_X_y=True)
hasher = SDHHasher(24, random_state=0).fit(X[800:], y[800:])
mapping = make_pipeline(
    HammingNeighborsTransformer(n_neighbors=61),
    TSNE(perplexity=20, metric="precomputed", init="random", random_state=0),
)
place = mapping.fit_transform(hasher.transform(X[:800]))

# %%
# None of these 800 digits was learnt from. Each dot is the code of one of them, its colour the
# digit.

fig, ax = plt.subplots(layout="constrained")
dots = ax.scatter(*place.T, c=y[:800], cmap="tab10", s=12)
ax.legend(*dots.legend_elements(), title="digit", loc="center left", bbox_to_anchor=(1, 0.5))
ax.set_axis_off()
