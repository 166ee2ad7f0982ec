"""RecBole's Config with our settings, which are read and checked before any work starts.

Also here: the table of models (`registry`), the changes that RecBole needs with today's libraries
(`compat`), and `register()` for scripts that call RecBole (`native`). From `llm` and `stages` this
room only imports settings and checks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"configurator": ["Config"], "settings": ["RunSettings", "Settings"]},
)
