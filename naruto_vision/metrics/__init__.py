"""Functional metrics, their torchmetrics twins and the intervals beside every rate."""
