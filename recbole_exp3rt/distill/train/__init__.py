"""Training of a student on a folder of training data.

`run` is the entry: `train`, `check` and `merge_adapter` import torch only when they are called.
`student.Training` trains all adapters of a student, `lora_trainer.fit` one adapter.
"""
