"""A forward pass, watched: which values are made, read and written, in which modules, and where they lie."""
