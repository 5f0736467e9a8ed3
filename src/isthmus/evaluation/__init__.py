"""Evaluation of fitted models: reconstruction, codes, dictionaries, likelihood, and the doctor's findings."""
