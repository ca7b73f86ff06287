"""The gallery: vectors, entries, index and thresholds in one folder."""
