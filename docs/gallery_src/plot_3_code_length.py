"""
Choose the length of codes
==========================

More bits rank better, up to a point, and take more memory. Cross-validation says where that point
is: the training folds are the database, and the test fold holds the queries.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold, validation_curve

from skhash import ITQHasher, SDHHasher
from skhash.metrics import make_retrieval_scorer

X, y = load_digits(return_X_y=True)
lengths = [4, 8, 16, 32]
scorer = make_retrieval_scorer("average_precision")
folds = KFold(3, shuffle=True, random_state=0)

# %%
# ITQ does not look at labels, and gains from each bit. SDH learns from ten classes, which few bits
# tell apart.

fig, ax = plt.subplots(layout="constrained")
for hasher in (ITQHasher(random_state=0), SDHHasher(random_state=0)):
    _, scores = validation_curve(
        hasher, X, y, param_name="n_bits", param_range=lengths, cv=folds, scoring=scorer
    )
    label = type(hasher).__name__
    ax.errorbar(lengths, scores.mean(axis=1), scores.std(axis=1), marker="o", label=label)
ax.set(xscale="log", xlabel="bits of a code", ylabel="mean average precision")
ax.set_xticks(lengths, lengths)
ax.minorticks_off()
ax.legend()
