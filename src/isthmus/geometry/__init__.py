"""What a model learned about the manifold that its rows lie near."""
