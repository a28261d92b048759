"""Prepared real sides: states on disk, moments of other tools, and the cache."""
