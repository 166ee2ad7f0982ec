"""Whether explanations are any good: judges, grounding, counterfactuals, human studies, case pages.

It reads what runs have written (`explanations.py` is the door to that) and asks language models
by the LLM interface. It does not know how a run makes an explanation.
"""
