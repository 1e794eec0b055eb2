"""From tiles to trusted pairs."""
