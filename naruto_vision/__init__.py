"""Find and name the characters of a drawn series in scenes.

Nothing is imported here: take each name from the module that defines it.
"""
