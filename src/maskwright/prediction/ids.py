"""Image and category ids of an annotation file, for COCO results that are measured against it."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.results.outputs import path_of, printable
from maskwright.types import Classes


def image_ids(sources: Sequence[Path | str], dataset: Dataset, option: str = "ids") -> list[int]:
    """The id of each source in `dataset`: of the image whose file name, with its folders, is the end of the path.

    option: what named the data set, for messages. Raises DataError where there is none, or where two sources are the
    same image.
    """
    by_name = defaultdict(list)
    for record in dataset.images:
        parts = PurePosixPath(record.file_name).parts
        by_name[parts[-1]].append((parts, record.id))
    found: dict[int, Path | str] = {}
    for source in sources:
        parts = path_of(source).parts
        same = [(len(own), image_id) for own, image_id in by_name[parts[-1]] if parts[-len(own) :] == own]
        if not same:
            near = [" There is " + "/".join(own) + "." for own, _ in by_name[parts[-1]][:1]]
            raise DataError(
                f"{printable(source)} is not an image of {dataset.source}.{''.join(near)} Predict only images that it "
                "has, or leave the file out.",
                options=(option,),
            )
        image_id = max(same)[1]
        if image_id in found:
            raise DataError(
                f"{printable(found[image_id])} and {printable(source)} are both image {image_id} of {dataset.source}.",
                options=(option,),
            )
        found[image_id] = source
    return list(found)


def with_category_ids(classes: Classes, dataset: Dataset, kept: Sequence[str] | None) -> Classes:
    """The same classes with the category ids of `dataset`. kept: the classes that are predicted; None is all.

    Raises ConfigError for one of these that `dataset` does not have.
    """
    labels = classes.match(dataset.classes).tolist()
    spare = max((*dataset.classes.ids, *classes.ids)) + 1
    ids = []
    for k, (name, label) in enumerate(zip(classes, labels, strict=True)):
        if label < 0 and (kept is None or name in kept):
            raise ConfigError(
                f"{dataset.source} has no class '{name}', which the model finds.{suggest(name, dataset.classes)} Name "
                "the model's classes as the file does, or keep only those that it has.",
                options=("classes", "only"),
            )
        ids.append(spare + k if label < 0 else dataset.classes.ids[label])
    return Classes(classes.names, ids, classes.landmarks)
