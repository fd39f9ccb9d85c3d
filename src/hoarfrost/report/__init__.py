"""In come the records of runs and what was measured of a model; out go pages of HTML, and tables and numbers as people
read them. What draws and fills pages is imported when it is first asked for (`__init__.pyi` says from where).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
