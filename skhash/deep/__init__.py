"""Deep hashing: everything in skhash that needs torch."""
