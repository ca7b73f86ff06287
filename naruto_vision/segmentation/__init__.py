"""A segmenter: a prompter chooses the prompts, a promptable model such as SAM predicts the masks."""
