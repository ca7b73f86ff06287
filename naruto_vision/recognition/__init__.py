"""Name the regions of a scene, and write the files of a run."""
