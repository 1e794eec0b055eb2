"""The inference room: preprocessing, network, model package, engine, worker and client."""
