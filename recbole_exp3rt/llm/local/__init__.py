"""A model on this machine: the engine, its key/value cache and its memory plan."""
