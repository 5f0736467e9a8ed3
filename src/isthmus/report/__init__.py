"""The report: figures of what a model learned, and one HTML file that holds them all.

    write(model, X, "report.html")

`isthmus.report.figures` has the figures as matplotlib draws them (extra `figures`).
"""

from isthmus.report.page import write

__all__ = ["write"]
