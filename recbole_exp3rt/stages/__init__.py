"""The three steps of EXP3RT, and the pipeline that asks a language model about them.

`preference`, `profile`, `rating` and `rationale` are pure: `request` builds a request, `parse`
reads its answer. `pipeline.Pipeline` runs the steps for a set of (user, item) pairs.
"""
