"""The loops that people already have.

In come a framework's trainer, model, loader; out go batches of images first, of stored features behind a freeze.
One file for each framework, imported when it is asked for by name: nothing here imports any.
"""

__all__: list[str] = []
