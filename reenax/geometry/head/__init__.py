"""The synthetic head: a free parametric face, and a renderer with exact ground truth."""
