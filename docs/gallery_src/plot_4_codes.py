"""
Look at codes
=============

Three questions to codes alone: is each bit 1 for about half of the samples, do bits say different
things, and how many samples share a code? `CodeDiagnosticsDisplay` shows all three.
"""

from sklearn.datasets import load_digits

from skhash import LSHHasher, SDHHasher
from skhash.metrics import CodeDiagnosticsDisplay

X, y = load_digits(return_X_y=True)

# %%
# Random directions (LSH): bits are balanced. Directions are alike by chance, so bits say partly
# the same, and together they are worth fewer than there are. Nearly every sample has a code of its
# own.

display = CodeDiagnosticsDisplay.from_estimator(LSHHasher(24, random_state=0).fit(X))

# %%
# Codes learnt from ten classes (SDH): samples of a class share codes, and many bits say the same.
# To rank by class that is right. To tell the samples of a class apart, it is not.

display = CodeDiagnosticsDisplay.from_estimator(SDHHasher(24, random_state=0).fit(X, y))
