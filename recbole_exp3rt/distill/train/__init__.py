"""Training a student: base model, token encoding, LoRA trainer, student card."""
