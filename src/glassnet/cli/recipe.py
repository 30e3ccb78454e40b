"""glassnet recipe list | run | page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glassnet.cli.output import JsonFlag, Output, percent
from glassnet.cli.progress import progress
from glassnet.errors import ConfigError
from glassnet.recipes import RECIPES, Recipe, Result, recipe_named
from glassnet.recipes.page import filled
from glassnet.recipes.result import Finished, shipped, write
from glassnet.recipes.simple_nn import costs
from glassnet.summary import table

recipe = typer.Typer(
    name="recipe", no_args_is_help=True, help="Run the published systems, and what their tasks get today."
)


@recipe.command("list")
def show_all(json: JsonFlag = False) -> None:
    """Show all recipes with what they should reach.

    Example: glassnet recipe list
    """
    output = Output(json)
    output.say(
        *table(
            ("recipe", "data", "published", "required", "on train", "within", "seeds", "about"),
            [
                (
                    *(r.name, r.config.data, percent(r.published.test_accuracy), percent(r.required)),
                    *(percent(r.required_train), "-" if r.within is None else f"{r.within:g} s"),
                    *(str(r.seeds), r.about),
                )
                for r in RECIPES.values()
            ],
            left=2,
        )
    )
    output.result(
        recipes=[
            {"recipe": r.name, "data": r.config.data, "seeds": r.seeds, "required": r.required}
            | {"required_train": r.required_train, "within": r.within}
            | {"published": r.published.test_accuracy, "about": r.about}
            for r in RECIPES.values()
        ]
    )


@recipe.command("run")
def run_one(
    name: Annotated[str, typer.Argument(help="A recipe of the list.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Run this seed alone, or begin with it.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds, else the recipe's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Only rehearse so many steps.")] = None,
    hold_out: Annotated[int, typer.Option(min=0, help="Judge on so many training images, not on test.")] = 0,
    run_dir: Annotated[Path, typer.Option(help="Where runs and finished seeds are kept.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="A folder for the result file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Run a recipe and compare it with what was published.

    A seed that is finished is kept: the same command goes on where it was interrupted.

    Example: glassnet recipe run deep-ml-130 --seed 0
    """
    chosen, output = recipe_named(name), Output(json)
    judged = "held-out" if hold_out else "test"
    for option, given, does in (
        ("--steps", steps is not None, "only rehearses"),
        ("--hold-out", hold_out > 0, "does not look at test"),
    ):
        if given and out is not None:
            raise ConfigError(f"{option} {does}, which is no result to write. Leave out --out or {option}.")
    count = seeds or (chosen.seeds if seed is None else 1)
    place = run_dir / f"hold-out-{hold_out}" if hold_out else run_dir
    kept = Finished(place, chosen.name, chosen.settings(), runs_of=chosen.runs_of)
    found = []
    for number in range(seed or 0, (seed or 0) + count):
        result = None if steps else kept.get(number)
        if result is None:
            with progress(output) as shown:
                result = chosen.train(
                    number,
                    steps=steps,
                    hold_out=hold_out,
                    folder=None if steps else kept.run_folder(number),
                    callbacks=[shown],
                    say=output.say,
                )
            if not steps:
                kept.put(result)
        output.say(
            f"{name}, seed {number}: {judged} accuracy {percent(result.test_accuracy)}, "
            f"train {percent(result.train_accuracy)}, {result.seconds:.2f} s of training."
        )
        found.append(result)
    report(output, chosen, kept.all(found), judged, out)


def report(output: Output, chosen: Recipe, result: Result, judged: str, out: Path | None) -> None:
    """Means beside the publication's figures; the result file where one is wanted."""
    figures, published = result.summary(), chosen.published
    if len(result.seeds) > 1:
        spread = " to ".join(percent(end) for end in figures["spread"] or ())
        mean = percent(figures["test_accuracy"])
        output.say(f"Mean of {len(result.seeds)} seeds: {judged} {mean} ({spread}).")
    if published.source:
        output.say(
            f"Published: test {percent(published.test_accuracy)}, train {percent(published.train_accuracy)}, "
            f"{'-' if published.seconds is None else f'{published.seconds:,.0f} s'}. {published.source}."
        )
    if out is not None:
        write(out / f"{chosen.name}.json", result)
        output.say(f"The result is in {out / chosen.name}.json.")
    output.result(**figures, judged=judged, published=published.test_accuracy)


@recipe.command("page")
def fill_page(
    page: Annotated[Path, typer.Argument(help="A Markdown page with the two marks of the table.")],
    picture: Annotated[Path | None, typer.Option(help="Where to draw the cost of simple-nn, as PNG.")] = None,
    json: JsonFlag = False,
) -> None:
    """Make the table of the documentation from the results that come with the package.

    Example: glassnet recipe page systems.md
    """
    output, results = Output(json), shipped()
    page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    output.say(f"{page} shows {len(results)} results.")
    if picture is not None:
        draw_costs(RECIPES["simple-nn"], results["simple-nn"], picture)
        output.say(f"The picture is {picture}.")
    output.result(page=str(page), results=len(results))


def draw_costs(chosen: Recipe, result: Result, path: Path) -> None:
    """The cost by epoch of each seed, and the published points, as a PNG."""
    from matplotlib.figure import Figure

    from glassnet.runs.plots import save

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for run in result.seeds:
        axes.plot(costs(run.log), label=f"seed {run.seed}", linewidth=1)
    axes.plot(list(chosen.published.cost), list(chosen.published.cost.values()), "k.", label="published")
    axes.set(xlabel="epoch", ylabel="cost", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
