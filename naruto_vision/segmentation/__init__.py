"""A segmenter is a prompter (where to ask) in front of a promptable model (SAM answers)."""
