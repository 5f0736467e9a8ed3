"""HTML report on a fitted model, and matplotlib figures.

    write(model, X, "report.html")

`isthmus.report.figures` contains the matplotlib figures (extra `figures`).
"""

from isthmus.report.page import write

__all__ = ["write"]
