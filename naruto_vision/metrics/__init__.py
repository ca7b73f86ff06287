"""Functional metrics, their torchmetrics twins and confidence intervals."""
