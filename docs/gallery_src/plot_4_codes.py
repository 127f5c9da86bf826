"""
Look at codes
=============

A good code has bits that are 1 for about half of the samples, and that say different things. Few
samples share a code by chance. `CodeDiagnosticsDisplay` shows all three, of codes alone.
"""

from sklearn.datasets import load_digits

from skhash import ITQHasher, LSHHasher
from skhash.metrics import CodeDiagnosticsDisplay

X, y = load_digits(return_X_y=True)

# %%
# Random directions (LSH): some bits hardly change from sample to sample, and many say partly the
# same.

display = CodeDiagnosticsDisplay.from_estimator(LSHHasher(24, random_state=0).fit(X))

# %%
# The leading principal components, rotated so that signs lose little (ITQ): bits are balanced, and
# together are worth more.

display = CodeDiagnosticsDisplay.from_estimator(ITQHasher(24, random_state=0).fit(X))
