"""The LLM protocol, the store of answers, and every model behind that protocol."""
