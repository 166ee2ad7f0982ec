"""P5: rating, reranking and explanation as one text-to-text problem; `model.py` is the system.

It imports nothing here, so that names can be listed without torch.
"""
