"""Write segmented scenes for other tools, and read them back."""
