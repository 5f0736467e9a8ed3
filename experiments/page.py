"""The pages of the experiments: a part of each page is written from the results, the rest by hand.

`python -m experiments.page [PAGES] [RESULTS]` writes the results in the folder RESULTS into the folder PAGES:
PAGES/NAME.md for each experiment, and the summary PAGES/README.md.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import EXPERIMENTS
from experiments.experiment import Experiment
from experiments.running import FOLDER, result_folder
from experiments.storage import with_parent, write_text
from isthmus.errors import InputError
from isthmus.files import atomic_write

PAGES = "docs/experiments"

IMAGES = "images"
"""The folder of the pictures, relative to the pages."""

RESULT, SUMMARY = "result", "summary"
"""The marks of the generated part in the page of an experiment and in the summary page."""

SUMMARY_HEAD = ["", "| experiment | claim | published figures met | targets met | minutes |", "| --- " * 4 + "| ---: |"]


def update(pages: Path, results: Path, experiments: Mapping[str, Experiment[Any]] = EXPERIMENTS) -> None:
    """Write the page of each experiment that has a result, copy its pictures, and write the summary.

    The generated part of a page stands between the lines `<!-- result -->` and `<!-- end result -->`; the rest stays
    as it is. A page that does not exist is created.

    Raises:
        InputError: the summary page does not exist, or a page lacks its marks.
    """
    summary = pages / "README.md"
    if not summary.is_file():
        raise InputError(f"there is no page {summary}; name the folder of the pages")
    for name, experiment in experiments.items():
        folder, page = result_folder(name, folder=results), pages / f"{name}.md"
        if (folder / "result.json").is_file():
            new = f"# {name}\n\n<!-- {RESULT} -->\n<!-- end {RESULT} -->\n"
            text = page.read_text(encoding="utf-8") if page.is_file() else new
            write_text(page, put(text, RESULT, _part(experiment, folder, pages)))
    text = summary.read_text(encoding="utf-8")
    write_text(summary, put(text, SUMMARY, _summary(text, results, experiments)))


def put(text: str, mark: str, part: str) -> str:
    """Return the text with the part between the marks replaced.

    Raises:
        InputError: the marks are missing.

    Example:
        >>> put("<!-- a --> old <!-- end a -->", "a", "new").split()
        ['<!--', 'a', '-->', 'new', '<!--', 'end', 'a', '-->']
    """
    start, end = f"<!-- {mark} -->", f"<!-- end {mark} -->"
    if start not in text or end not in text:
        raise InputError(f"the page has no lines {start} and {end}; add them where the generated part belongs")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{part.strip()}\n{end}{rest.partition(end)[2]}"


def _part(experiment: Experiment[Any], folder: Path, pages: Path) -> str:
    """Return claim, source, protocol and table of an experiment; copy its pictures beside the pages."""
    table = (folder / "table.md").read_text(encoding="utf-8")
    for picture in json.loads((folder / "result.json").read_text(encoding="utf-8"))["pictures"]:
        path = with_parent(pages / IMAGES / f"{experiment.name}-{picture}")
        with atomic_write(path) as temporary:
            shutil.copyfile(folder / picture, temporary)
        table = table.replace(f"]({picture})", f"]({IMAGES}/{path.name})")
    return f"**{experiment.claim}**\n\nSource: {experiment.source}.\n\nProtocol: {experiment.protocol}\n\n{table}"


def _summary(text: str, results: Path, experiments: Mapping[str, Experiment[Any]]) -> str:
    """Return the summary table. An experiment without a result keeps its line of the page."""
    lines = list(SUMMARY_HEAD)
    for name, experiment in experiments.items():
        path = result_folder(name, folder=results) / "result.json"
        before = re.search(rf"^\| \[{re.escape(name)}\].*$", text, re.MULTILINE)
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            met = [counted([row[f"{bound}_verdict"] for row in result["rows"]]) for bound in ("published", "target")]
            lines.append(f"| {_link(name)} | {experiment.claim} | {' | '.join(met)} | {result['minutes']:.1f} |")
        else:
            lines.append(before[0] if before else f"| {_link(name)} | {experiment.claim} | not run yet | | |")
    return "\n".join([*lines, ""])


def _link(name: str) -> str:
    return f"[{name}]({name}.md)"


def counted(verdicts: Sequence[str]) -> str:
    """Return how many verdicts of a column are passes.

    Example:
        >>> counted(["pass", "", "MISS", "n/c"]), counted(["pass"]), counted([""])
        ('1 of 2 **MISS**, 1 n/c', '1 of 1', '')
    """
    passes, misses, skipped = (sum(verdict == one for verdict in verdicts) for one in ("pass", "MISS", "n/c"))
    judged = f"{passes} of {passes + misses}" + " **MISS**" * bool(misses) if passes + misses else ""
    return ", ".join(part for part in (judged, f"{skipped} n/c" if skipped else "") if part)


if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv[1:3]))
    update(Path(arguments.get(0, PAGES)), Path(arguments.get(1, FOLDER)))
