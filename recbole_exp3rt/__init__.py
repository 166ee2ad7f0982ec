"""EXP3RT, the review-driven preference reasoner, as a plugin of RecBole.

The names below are imported when they are first used, so `import recbole_exp3rt` does not load
torch, transformers or recbole.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # __init__.pyi
