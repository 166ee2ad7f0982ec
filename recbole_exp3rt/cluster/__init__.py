"""Many machines: language models in processes of a Ray cluster, and the bulk flow over its data.

What runs there imports records, scale, prompts, llm and stages: no RecBole, and no torch unless the
model needs it. `scaling` and `train_tables`, which know settings and data sets, run at home.
"""
