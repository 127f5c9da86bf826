"""Large numbers of images or rows, encoded into shards of packed codes."""
