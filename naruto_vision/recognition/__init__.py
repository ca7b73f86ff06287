"""From a scene to named regions, and to the files of a run."""
