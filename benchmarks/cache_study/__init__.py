"""What `benchmarks/cache.py` is made of: epochs, libraries, the shuffle."""
