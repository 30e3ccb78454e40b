"""The table of docs/systems.md, made from the results that come with the package."""

from __future__ import annotations

from glassnet.errors import FileFormatError
from glassnet.recipes import RECIPES, Recipe, Result

BEGIN, END = "<!-- table: glassnet recipe page -->\n", "<!-- end of the table -->"
HEADER = ("system", "published", "same settings", "today", "time there", "time here", "command")


def filled(text: str, results: dict[str, Result]) -> str:
    """The text of the page with the table of these results between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise FileFormatError(f"The page needs the two lines {BEGIN.strip()!r} and {END!r}.")
    return before + BEGIN + table(results) + END + after


def table(results: dict[str, Result]) -> str:
    """Markdown: a row for each recipe that has a result."""
    rows = [HEADER, ("---",) * len(HEADER)]
    rows += [row(recipe, results) for recipe in RECIPES.values() if recipe.name in results]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(recipe: Recipe, results: dict[str, Result]) -> tuple[str, ...]:
    """One recipe beside its publication, and what its task gets today."""
    result, published = results[recipe.name], recipe.published
    train = published.test_accuracy is None and published.train_accuracy is not None
    what = "train_accuracy" if train else "test_accuracy"
    here = over_seeds(result, what)
    return (
        recipe.about,
        accuracy(getattr(published, what)) + " on train" * train,
        *((here, today(recipe.today, results)) if published.source else ("-", here)),
        duration(published.seconds),
        duration(result.mean("seconds")),
        f"`glassnet recipe run {recipe.name}`",
    )


def over_seeds(result: Result, what: str) -> str:
    """Mean, least and greatest of a figure."""
    values = result.values(what)
    spread = f"{100 * min(values):.2f} to {100 * max(values):.2f}, {len(values)} seeds"
    return f"{accuracy(result.mean(what))} ({spread})"


def today(name: str, results: dict[str, Result]) -> str:
    """What the recipe of that name gets for the same task, and in what time."""
    if name not in results:
        return "-"
    found = results[name]
    return f"{accuracy(found.mean('test_accuracy'))} in {duration(found.mean('seconds'))}: `{name}`"


def accuracy(share: float | None) -> str:
    """98.55 %, or a dash."""
    return "-" if share is None else f"{100 * share:.2f} %"


def duration(seconds: float | None) -> str:
    """55 s, 49 min, 11.6 h; two digits below ten seconds."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
