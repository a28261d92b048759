"""The reference ProGAN: networks, training, sampling."""
