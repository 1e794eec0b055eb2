"""The training room: from scan folders to aligned pairs, from pairs to a model package, and its evidence."""
