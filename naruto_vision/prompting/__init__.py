"""Where to ask a promptable model: user prompts, saliency, exemplars, texts and sweeps."""
