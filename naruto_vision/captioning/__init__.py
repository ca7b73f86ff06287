"""Describe regions in words: attributes, a chat-completions endpoint, a local model; relations between regions."""
