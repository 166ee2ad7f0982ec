"""Stores of answers: one SQLite file, or a PostgreSQL database that many machines share.

`opening.open_store` makes one of its path or URL; `base.Store` is what every store can do. A store
does not know which model is asked, or what an answer means.
"""
