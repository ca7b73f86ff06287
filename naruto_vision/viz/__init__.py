"""Overlays, contact sheets, figures and fonts: what people look at."""
