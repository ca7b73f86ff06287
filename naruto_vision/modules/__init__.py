"""LightningModules: thin shells around plain torch."""
