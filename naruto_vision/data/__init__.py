"""Readers of class data and scenes, and the LightningDataModules over them."""
