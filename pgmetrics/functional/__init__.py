"""The mathematics of the metrics, from tensors to tensors, without files or randomness."""
