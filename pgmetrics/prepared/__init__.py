"""Real sides that were prepared earlier: states on disk, moments of other tools, and the cache."""
