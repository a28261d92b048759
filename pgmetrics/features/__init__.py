"""Networks that turn images into rows of features."""
