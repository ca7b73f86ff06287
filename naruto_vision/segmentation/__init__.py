"""Segmenters: a prompter and a promptable model."""
