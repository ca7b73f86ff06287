"""The tabs of the page: a module each, with ``build(context)``."""
