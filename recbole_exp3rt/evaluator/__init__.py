"""What is measured: rating metrics, calibration, significance, the rows of a run, exports.

It knows fitted models and splits. It prints nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ratings": ["constant_ratings", "filled", "predict_ratings", "rate_pairs", "rating_metrics"]
    },
)
