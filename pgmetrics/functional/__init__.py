"""Tensors in, tensors out: no state, no files, no devices chosen, no randomness."""
