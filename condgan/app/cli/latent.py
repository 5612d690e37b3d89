"""Look into a run's generator: directions of latents, pictures found in it, neighbors of images, its classes."""

from pathlib import Path
from typing import Annotated

import click

from condgan.app.cli.options import (
    CheckpointOption,
    ModelArgument,
    OutOption,
    RunArgument,
    SeedOption,
    SetOption,
    TruncationOption,
    few_labels,
    files_listed,
)
from condgan.app.cli.usage import Argument, Option
from condgan.runs.directory import require_run, run_directory
from condgan.utils.files import csv_bytes, file_names, require_outside, write

PAIRS_TOLD = 3
"""Pairs of classes that are told of."""
DIRECTIONS_TABLE, INVERSION_FILES = "directions.csv", ("inversion.csv", "sheet.png")
NEIGHBOR_FILES, TREE_FILES = ("neighbors.csv", "neighbors.png", "nearby.png"), ("distances.csv", "tree.png")
NEARBY_SHOWN = 8
"""Images of latents near that of another one."""


def directions_command(
    run: ModelArgument,
    out: Annotated[Path, Option("Folder for the pictures and the table.")],
    count: Annotated[int | None, Option("Directions, those first that move images most; by default eight.")] = None,
    reach: Annotated[float, Option("How far to go on either side; coordinates of latents have variance 1.")] = 5.0,
    steps: Annotated[int, Option("Images in a row, both ends included.")] = 7,
    classes: Annotated[str | None, Option("Class names with commas between; ten of all by default.")] = None,
    settings: SetOption = (),
    per_class: Annotated[int, Option("Images of each class that the ways go through.")] = 1,
    seed: SeedOption = 0,
    truncation: TruncationOption = None,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Move images along the directions that a generator's first layers amplify: OUT/CLASS.png and OUT/directions.csv.

    The directions are those of SeFa (Shen & Zhou 2021). A row goes through an image that `condgan sample` makes.
    """
    directory = run_directory(run)
    require_run(directory, out)
    from condgan.runs.models import load_model
    from condgan.sampling.files import require_own
    from condgan.utils.figures import directions_sheet, write_pictures

    model = load_model(directory, checkpoint).with_latents(truncation)
    chosen = few_labels(model, classes, settings)
    names = [model.group_names(one)[0] for one in chosen]
    files = [f"{name}.png" for name in file_names(names)]
    require_own(out, files)
    pictures, lines = {}, []
    for name, one_class, file in zip(names, chosen, files, strict=True):
        found = model.directions(count, one_class)
        images = model.along(found, one_class, per_class, reach, steps, seed)
        pictures[file] = directions_sheet(images, found.strengths.tolist(), reach)
        lines += [[name, *one] for one in found.rows()]
    header = ["class", "direction", "strength", *(f"z{i}" for i in range(len(lines[0]) - 3))]
    write(out / DIRECTIONS_TABLE, csv_bytes([header, *lines]))
    write_pictures(out, pictures)
    click.echo(f"wrote {files_listed(out, [*pictures, DIRECTIONS_TABLE])}")


def invert_command(
    run: ModelArgument,
    inputs: Annotated[tuple[Path, ...], Argument("IMAGE|FOLDER...", "Images, folders or zips of some.")],
    *,
    out: Annotated[Path, Option("Folder for the picture and the table.")],
    tried: Annotated[int, Option("Classes that are tried for each image, the likeliest ones.")] = 3,
    starts: Annotated[int, Option("Latents to start from in each of them.")] = 4,
    steps: Annotated[int, Option("Steps of the descent; more find nearer images.")] = 200,
    seed: Annotated[int, Option("The same seed finds the same latents.")] = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Find the latent and the class whose image is nearest to given ones: OUT/sheet.png and OUT/inversion.csv."""
    directory = run_directory(run)
    require_run(directory, out)
    for folder in filter(Path.is_dir, inputs):
        require_outside(out, folder, f"--out {out}")
    from condgan.build import image_preprocessing
    from condgan.runs.directory import recipe_of
    from condgan.runs.invert import reader_of
    from condgan.runs.models import load_model
    from condgan.sampling.files import fitting, read_pictures, require_own
    from condgan.sampling.invert import inversion_sheet, inversion_table, invert
    from condgan.types import ImageShape
    from condgan.utils.figures import png

    require_own(out, INVERSION_FILES)
    model = load_model(directory, checkpoint, "float32")
    pictures = read_pictures(image_preprocessing(recipe_of(directory)), inputs)
    for note in pictures.notes:
        click.echo(note, err=True)
    for said in fitting(pictures.sizes, ImageShape(*pictures.images.shape[1:])):
        click.echo(said)
    found = invert(model, pictures.images, reader_of(directory, checkpoint), tried, starts, steps, seed)
    table, picture = INVERSION_FILES
    write(out / table, inversion_table(found, pictures.names, model.classes))
    write(out / picture, png(inversion_sheet(found, pictures.images, model.classes)))
    for name, of_image, errors, random in zip(
        pictures.names, found.classes, found.errors, found.of_random, strict=True
    ):
        best = model.classes[int(of_image[0])]
        click.echo(f"{name}: class {best}, error {errors[0]:.1f} of 255; the nearest random image's is {random:.1f}")
    click.echo(f"wrote {files_listed(out, INVERSION_FILES)}")


def neighbors_command(
    directory: RunArgument,
    out: Annotated[Path, Option("Folder for the pictures and the table.")],
    classes: Annotated[str | None, Option("Class names with commas between; ten of all by default.")] = None,
    per_class: Annotated[int, Option("Images of each class that are asked about.")] = 1,
    count: Annotated[int, Option("Neighbors of each kind.")] = 5,
    n: Annotated[int, Option("Generated images to search among, of the next seed.")] = 1_000,
    distance: Annotated[float, Option("Of nearby latents: 0 are the same, 1 have nothing in common.")] = 0.3,
    seed: SeedOption = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Show what is like images that a run makes: OUT/neighbors.png, OUT/neighbors.csv and OUT/nearby.png.

    The generated and the training images nearest to each, by the classifier of `condgan evaluate`, which tells copies;
    and images of latents near its own.
    """
    require_run(directory, out)
    from condgan.runs.neighbors import NeighborSearch, nearby_sheet
    from condgan.sampling.files import require_own
    from condgan.utils.arguments import whole
    from condgan.utils.figures import channels_first, png

    require_own(out, NEIGHBOR_FILES)
    count = whole("--count", count, 1)
    search = NeighborSearch.of(directory, n, whole("--seed", seed) + 1, checkpoint)
    chosen = few_labels(search.model, classes, ())
    drawn = search.model.draw(chosen, per_class, seed)
    images = channels_first(search.model.make(drawn))
    asked = [(name, number) for name in chosen for number in range(per_class)]
    captions = [f"{name}, no. {number}" for name, number in asked]
    nearby = nearby_sheet(search.model, drawn, captions, NEARBY_SHOWN, distance, seed)
    found = search.among(images, count)
    table, picture, turned = NEIGHBOR_FILES
    write(out / table, search.table(found, asked, count))
    write(out / picture, png(search.sheet(images, found, captions, count)))
    write(out / turned, png(nearby))
    if found.copies is not None:
        click.echo(f"{int(found.copies.sum())} of {len(images)} are as near to a training image as a copy")
    click.echo(f"wrote {files_listed(out, NEIGHBOR_FILES)}")


def tree_command(
    run: ModelArgument,
    out: OutOption,
    per_class: Annotated[int, Option("Images of each class that are made for it.")] = 100,
    seed: Annotated[int, Option("Seed of the images.")] = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Draw which classes are alike to a run, and which are in real images: OUT/tree.png and OUT/distances.csv."""
    directory = run_directory(run)
    require_run(directory, out)
    from condgan.evaluation.class_tree import confused_classes, distance_table, tree_picture
    from condgan.runs.class_tree import run_class_distances
    from condgan.sampling.files import require_own

    require_own(out, TREE_FILES)
    classes, distances = run_class_distances(directory, per_class, seed, checkpoint)
    table, picture = TREE_FILES
    write(out / table, distance_table(distances, classes))
    write(out / picture, tree_picture(distances, classes))
    if len(distances) > 1:
        _, made, real = distances.values()
        for pair in confused_classes(made, real, classes)[:PAIRS_TOLD]:
            click.echo(f"{pair.first} and {pair.second} are {pair.ratio:.2f} times as far apart as in real images")
    click.echo(f"wrote {files_listed(out, TREE_FILES)}")
