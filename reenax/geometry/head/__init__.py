"""A procedural head of closed formulas: identity, expression, gaze and exact labels, no scan, no licence."""
