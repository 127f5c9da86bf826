"""
Hashers in scikit-learn
=======================

A hasher is an estimator. It ends a pipeline, it is cloned, and its parameters are searched over.
"""

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from skhash import ITQHasher
from skhash.metrics import RankingCurveDisplay, make_retrieval_scorer

X, y = load_digits(return_X_y=True)
pipeline = make_pipeline(PCA(random_state=0), ITQHasher(random_state=0))
grid = {"pca__n_components": [32, 48], "itqhasher__n_bits": [8, 16, 32]}
search = GridSearchCV(
    pipeline,
    grid,
    cv=KFold(3, shuffle=True, random_state=0),
    scoring=make_retrieval_scorer("ndcg", k=100),
)
search.fit(X[300:], y[300:])

# %%
# The "?" of the hasher leads to its page.

search.best_estimator_

# %%
# A display takes the pipeline as it takes a hasher.

display = RankingCurveDisplay.from_estimator(search.best_estimator_, X[:300], y[:300])
