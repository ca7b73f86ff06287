"""All disk access: images, videos, tables, JSON, archives and weights; atomic writes, locks, downloads."""
