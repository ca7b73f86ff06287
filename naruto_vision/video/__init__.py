"""Videos: frames in files, shots, tracks, and the search for moments."""
