"""The foundation: random numbers, images as bytes, blocks of work, devices, threads and files."""
