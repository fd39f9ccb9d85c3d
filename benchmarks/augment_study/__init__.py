"""What `benchmarks/augmentation.py` is made of: data, models, arms, the runner, the page."""
