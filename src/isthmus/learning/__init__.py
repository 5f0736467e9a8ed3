"""How a model learns: objectives, and the one loop that follows their gradient."""
