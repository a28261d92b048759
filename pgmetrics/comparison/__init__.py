"""Decide whether one generated set is better than another, or within noise of it."""
