"""Segmenters: a prompter in front of a promptable model."""
