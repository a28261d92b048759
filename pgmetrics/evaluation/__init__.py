"""One pass over real and generated images that feeds every metric."""
