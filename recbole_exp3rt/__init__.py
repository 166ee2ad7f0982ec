"""EXP3RT, the review-driven preference reasoner, as a plugin of RecBole.

Importing this package takes a blink: torch, transformers and recbole arrive when they are used.
"""

__version__ = "0.1.0"
