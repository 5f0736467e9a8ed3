"""The scikit-learn face: one short class a kind, its docstring its chapter."""
