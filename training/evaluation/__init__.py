"""What the network does, in figures: baselines, metrics and the report."""
