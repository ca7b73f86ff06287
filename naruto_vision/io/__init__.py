"""The only doors to the disk: images, atomic writes, model bundles and the one place that may open a pickle."""
