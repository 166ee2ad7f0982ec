"""RecBole's Config with our settings: read, checked and named before any work starts.

Also here: the table of models, the changes that RecBole needs on today's libraries (`compat`),
and `register()` for scripts written against RecBole. It imports no other room but the plain ones
and the settings of `llm` and `stages`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"configurator": ["Config"], "settings": ["RunSettings", "Settings"]},
)
