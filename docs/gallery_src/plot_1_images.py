"""
Find images that share labels
=============================

A network is trained on small images of one or two handwritten digits. The digits that an image
shows are its labels. Then images that it was not trained on are queries.
"""

from skhash import DeepRankingHasher
from skhash.datasets import make_digit_scenes
from skhash.metrics import RetrievalDisplay

scenes = {"max_digits": 2, "image_size": 24, "return_X_y": True, "random_state": 0}
images, labels = make_digit_scenes(2000, subset="train", **scenes)
hasher = DeepRankingHasher(
    32, hidden_size=256, flip=False, learning_rate=1e-2, max_epochs=10, random_state=0
)
hasher.fit(images, labels)

# %%
# A code is 32 bits, four bytes. The first image of a row is the query, with digits that no image
# of the training shows. The others are the images with the nearest codes, the number of bits in
# which these differ, and the digits that they share. A red frame is around what shares none.

queries, query_labels = make_digit_scenes(100, subset="test", **scenes)
display = RetrievalDisplay.from_estimator(
    hasher, queries[:4], query_labels[:4], database_images=images
)

# %%
# Four queries show what an answer looks like. How good answers are is a mean over many: NDCG of
# the first 100 results is 1 where those that share most digits come first.

print(round(hasher.score(queries, query_labels), 2))
