"""Building blocks of an autoencoder: networks, likelihoods, corruptions, penalties, energies. They need torch alone."""
