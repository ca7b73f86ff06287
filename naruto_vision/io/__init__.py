"""All disk access: images, atomic writes, bundles, checkpoints, downloads, quarantine."""
