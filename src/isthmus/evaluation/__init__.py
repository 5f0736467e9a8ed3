"""How good a code is: against principal components, for a classifier, and in the doctor's plain words."""
