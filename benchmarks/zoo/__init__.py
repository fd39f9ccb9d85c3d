"""The parts of `benchmarks/zoo.py`: who is in the zoo, and how one model of it is examined."""
