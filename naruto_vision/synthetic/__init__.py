"""Synthetic data: characters, scenes with masks and parts, and captions, bit for bit the same from a seed."""
