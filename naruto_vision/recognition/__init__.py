"""From a scene to named regions, and from those to files that people and programs read."""
