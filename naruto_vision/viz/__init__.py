"""Overlays, contact sheets, plots and fonts."""
