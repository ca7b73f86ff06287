"""The only doors to the disk: images, atomic writes, bundles, checkpoints, downloads, quarantine."""
