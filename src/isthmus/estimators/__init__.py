"""Estimators: the scikit-learn interface of every kind of autoencoder, and of the predictors on their codes."""

from isthmus.estimators import registry as registry  # registers every kind, so that `load` finds it
