"""How good predictions are, and how far that can be trusted: what judges a trained network."""
