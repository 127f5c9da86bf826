"""The picture of the first page: images beside those with the nearest codes."""

from skhash import DeepRankingHasher
from skhash.datasets import make_digit_scenes
from skhash.metrics import RetrievalDisplay

scenes = {"max_digits": 2, "image_size": 24, "return_X_y": True, "random_state": 0}
images, labels = make_digit_scenes(2000, subset="train", **scenes)
hasher = DeepRankingHasher(
    32, hidden_size=256, flip=False, learning_rate=1e-2, max_epochs=10, random_state=0
)
hasher.fit(images, labels)

queries, query_labels = make_digit_scenes(3, subset="test", **scenes)
RetrievalDisplay.from_estimator(hasher, queries, query_labels, database_images=images, n_results=3)
