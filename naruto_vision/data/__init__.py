"""Readers of labelled images and scenes, and the LightningDataModules."""
