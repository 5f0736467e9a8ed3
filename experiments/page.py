"""The page of the guide: what is between its marks is written from results, the rest by hand.

`python -m experiments.page [PAGE] [FOLDER]` puts the results that are in FOLDER into PAGE.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from experiments import EXPERIMENTS
from experiments.experiment import Experiment
from experiments.keeping import made, write_text
from experiments.running import FOLDER, result_folder
from isthmus.errors import InputError
from isthmus.files import atomic_write

PICTURES = "images/reproductions"
"""Where pictures go, from the folder of the page."""

SUMMARY = "summary"
"""The mark of the table of all experiments."""


def update(page: Path, folder: Path, experiments: Mapping[str, Experiment] = EXPERIMENTS) -> None:
    """Rewrite each marked part of the page whose experiment has a result in the folder; copy the pictures.

    A mark is a pair of lines `<!-- NAME -->` and `<!-- end NAME -->`. Parts without a result stay as they are.

    Raises:
        InputError: the page is not there, or lacks the mark of an experiment that has a result.
    """
    if not page.is_file():
        raise InputError(f"no such page: {page}")
    text = page.read_text(encoding="utf-8")
    for name, experiment in experiments.items():
        place = result_folder(name, folder=folder)
        if (place / "result.json").is_file():
            text = put(text, name, _part(experiment, place, page.parent))
    write_text(page, put(text, SUMMARY, _summary(text, folder, experiments)))


def put(text: str, mark: str, part: str) -> str:
    """The text with another part between the marks.

    Raises:
        InputError: the marks are not there.

    Example:
        >>> put("<!-- a --> old <!-- end a -->", "a", "new").split()
        ['<!--', 'a', '-->', 'new', '<!--', 'end', 'a', '-->']
    """
    start, end = f"<!-- {mark} -->", f"<!-- end {mark} -->"
    if start not in text or end not in text:
        raise InputError(f"the page has no lines {start} and {end}; write them where the result belongs")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{part.strip()}\n{end}{rest.partition(end)[2]}"


def _part(experiment: Experiment, place: Path, root: Path) -> str:
    """An experiment's part: claim, source, protocol, and its table with the pictures where the page has them."""
    table = (place / "table.md").read_text(encoding="utf-8")
    for picture in json.loads((place / "result.json").read_text(encoding="utf-8"))["pictures"]:
        path = made(root / PICTURES / f"{experiment.name}-{picture}")
        with atomic_write(path) as temporary:
            shutil.copyfile(place / picture, temporary)
        table = table.replace(f"]({picture})", f"]({PICTURES}/{path.name})")
    return f"\n**{experiment.claim}**\n\nSource: {experiment.source}.\n\nProtocol: {experiment.protocol}\n\n{table}"


def _summary(text: str, folder: Path, experiments: Mapping[str, Experiment]) -> str:
    """One line an experiment: whether its figures agree; lines without a result here stay as the page has them."""
    lines = ["", "| experiment | claim | figures that agree | minutes |", "| --- | --- | --- | ---: |"]
    for name, experiment in experiments.items():
        path = result_folder(name, folder=folder) / "result.json"
        before = re.search(rf"^\| \[{re.escape(name)}\].*$", text, re.MULTILINE)
        if path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
            verdicts = [row["verdict"] for row in told["rows"] if row["verdict"]]
            agreed = f"{verdicts.count('pass')} of {len(verdicts)}" + " **MISS**" * ("MISS" in verdicts)
            lines.append(f"| [{name}](#{name}) | {experiment.claim} | {agreed} | {told['minutes']:.1f} |")
        else:
            lines.append(before[0] if before else f"| [{name}](#{name}) | {experiment.claim} | not run yet | |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    wanted = dict(enumerate(sys.argv[1:3]))
    update(Path(wanted.get(0, "docs/reproductions.md")), Path(wanted.get(1, FOLDER)))
