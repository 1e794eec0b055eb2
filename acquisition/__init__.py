"""The microscope room: plans a paired scan, focuses, acquires, feeds live frames to the worker."""
