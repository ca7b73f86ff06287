"""The gallery: vectors, rows, index and thresholds in one folder."""
