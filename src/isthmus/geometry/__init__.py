"""Geometry of a trained model: scores and the data manifold."""
