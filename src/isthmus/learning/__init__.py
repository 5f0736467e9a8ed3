"""Training: objectives, and the trainer that minimises them."""
