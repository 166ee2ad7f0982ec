"""OpenAI-compatible servers: the client with its retries, and the token, chat and Batch routes."""
