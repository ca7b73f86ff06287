"""The only doors to the disk: pictures, atomic writes, model bundles and the one place that may open a pickle."""
