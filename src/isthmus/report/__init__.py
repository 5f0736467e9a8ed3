"""The report: figures of what a model learned, and one HTML file that holds them all.

    write(model, X, "report.html")

See `isthmus.report.figures` for the figures alone, as matplotlib has them.
"""

from isthmus.report.page import write

__all__ = ["write"]
