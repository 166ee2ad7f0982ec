"""The models, one file each, and the rater that asks the LLM.

A model gets the train part only. It does not know how it is trained or measured.
"""
