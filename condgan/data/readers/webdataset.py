"""Samples of WebDataset shards: files that share a name."""

from collections import defaultdict

from condgan.data.listing import Listing
from condgan.data.readers.labels import Label, Rows, json_label, read_json, split_of
from condgan.data.readers.tree import Tree, is_image, parent
from condgan.utils.errors import UserError
from condgan.utils.limits import TEXT


def list_samples(tree: Tree, share: float | None) -> Listing | None:
    """WebDataset's shards: files of the same name but for their endings are a sample."""
    of_key: dict[str, dict[str, str]] = defaultdict(dict)
    for file in tree.files:
        folder, _, name = file.rpartition("/")
        stem, _, ending = name.partition(".")
        of_key[f"{folder}/{stem}"][ending.lower()] = file
    labeled = [parts for parts in of_key.values() if "cls" in parts or (tree.tar and "json" in parts)]
    if not labeled:
        return None
    rows, files = Rows(tree, "the shards"), []
    for parts in of_key.values():
        image = next((file for file in parts.values() if is_image(file)), None)
        if image is None:
            continue
        source = parts.get("cls") or parts.get("json")
        if source is None:
            raise UserError(f"sample '{image}' of '{tree.source}' has no .cls nor .json: label all images, or none")
        rows.add(image, _sample_label(tree, source), split_of(parent(image)) if tree.tar else -1, f"'{source}'")
        files.append(image)
    return rows.listing(files, share)


def _sample_label(tree: Tree, file: str) -> Label:
    text = tree.text(file, TEXT).strip()
    if file.lower().endswith(".cls"):
        if not text:
            raise UserError(f"'{file}' is empty: expected a class")
        return text
    try:
        given = read_json(text)
    except ValueError as error:
        raise UserError(f"'{file}' is no JSON ({error}): expected an object with a label") from None
    for name in ("label", "labels", "cls", "class", "class_name", "category"):
        if isinstance(given, dict) and name in given:
            return json_label(given[name], f"'{file}'")
    raise UserError(f"'{file}' has no label: expected an object with one, such as {{\"label\": 3}}")
