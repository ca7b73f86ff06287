"""Images and texts in, unit vectors out: CLIP through open_clip, DINOv2 through timm."""
