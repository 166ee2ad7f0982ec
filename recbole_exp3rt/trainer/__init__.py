"""RecBole's trainers with our checkpoints, and the fit of one model on one split.

Settings and epochs are chosen on validation; the test part is never seen here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fitting": ["Fitted", "fit"],
        "trainer": ["make_trainer", "write_checkpoint"],
    },
)
