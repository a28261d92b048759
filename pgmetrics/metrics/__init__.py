"""Accumulators: one state per metric and side."""
