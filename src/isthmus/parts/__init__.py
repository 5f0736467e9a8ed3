"""What an autoencoder is made of; torch alone."""
