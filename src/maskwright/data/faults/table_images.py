"""The faults of the file, its records and the images: entries of `table.FAULTS`."""

from maskwright.data.faults.fault import error, note, warning

FILE = (
    error(
        "unreadable-annotations",
        "The annotations cannot be read at all, or a section of the file is missing.",
        advice="Export them again, or name their format.",
    ),
    error(
        "malformed-record",
        "A record is not a JSON object, or lacks a required field.",
        repair="annotations of this kind are left out",
        advice="Add the field or remove the record.",
    ),
    error("no-objects", "No object is annotated.", advice="Annotate the images; was the right file exported?"),
)

IDS = (
    error(
        "image-id-clash",
        "Two image records have the same id.",
        repair="of equal records one is kept",
        advice="Give each image its own id, and its annotations with it.",
    ),
    error("annotation-id-clash", "Two annotations have the same id.", repair="the later one gets a new id"),
    error(
        "category-id-clash",
        "Two classes have the same id.",
        repair="of equal classes one is kept",
        advice="Find out which class the annotations mean, and number the classes apart.",
    ),
    error(
        "unknown-category",
        "An annotation names a class that the file does not list.",
        repair="the class is added under the name 'class ID', to be renamed",
        advice="Add the class.",
    ),
    error(
        "unknown-image",
        "An annotation belongs to an image that the file does not list.",
        repair="the annotation is left out",
        advice="Add the image.",
    ),
    warning(
        "id-as-text",
        "Ids are written as text or with a decimal point; other tools do not match them.",
        repair="they become whole numbers",
    ),
    warning("negative-id", "An id is negative; tools use such numbers for 'none'.", repair="a new id"),
    warning(
        "annotation-id-zero",
        "An annotation has the id 0: COCO's own evaluation counts a match with it as a miss.",
        repair="a new id",
    ),
)

IMAGES = (
    error(
        "bad-size",
        "Height or width of an image record is missing, not a positive whole number or absurdly large.",
        repair="taken from the image",
        advice="Write the image's size into its record.",
    ),
    error(
        "missing-image",
        "The image file does not exist.",
        repair="renamed to the only file it can be; else left out with its objects, unless over half are missing",
        advice="Bring the file back, or give the right image folder.",
    ),
    error(
        "file-name-spelling",
        "The image file exists under another spelling: letter case, accents, backslashes.",
        repair="the name becomes that of the file",
    ),
    warning(
        "unsafe-file-name",
        "A file name is absolute or leaves the image folder with '..'; the set cannot be moved.",
        repair="the copy has the image under a plain name",
    ),
    error(
        "duplicate-file-name",
        "Two image records name the same file, so the objects of one are background for the other.",
        repair="the records become one with the objects of both, if their sizes agree",
        advice="Correct the size of the wrong record.",
        after="image-id-clash",
    ),
    error(
        "unreadable-image",
        "The file is empty, not an image, or of a kind that is not read.",
        repair="the image and its objects are left out",
        advice="Export it again as PNG or JPEG.",
    ),
    error(
        "truncated-image",
        "The image is cut off or damaged after a valid header.",
        repair="the image and its objects are left out",
        advice="Fetch the file again.",
    ),
    error(
        "oversized-image",
        "The image has more pixels than are read (a guard against decompression bombs).",
        advice="Cut it into tiles.",
    ),
    error(
        "exif-rotation",
        "The annotations were drawn before the image's EXIF rotation was applied.",
        repair="written as PNG without the tag, the pixels as they are stored",
    ),
    error(
        "size-disagrees",
        "The record states a size that is not the image's.",
        repair="outlines are scaled where the image was resized, or the record is corrected where they fit",
        advice="Find out whether the image was resized, cropped or replaced after it was annotated.",
        after="exif-rotation",
    ),
    warning(
        "exif-tag",
        "The image is turned by an EXIF tag, which many tools ignore.",
        repair="written upright without the tag, as PNG, where the annotated size is the upright one",
        advice="ImageLook at the image with its annotations, turn its pixels and remove the tag.",
        after="exif-rotation size-disagrees",
    ),
    warning("blank-image", "All pixels of the image are the same.", advice="Was the right image exported?"),
    warning(
        "multi-frame-image",
        "The file holds several frames or pages; only the first is used.",
        advice="Write the frame that was annotated to a file of its own.",
    ),
    warning(
        "dim-image",
        "A 16-bit image uses only the lowest of its bits, so it is read as almost black.",
        advice="Scale it to the full range (multiply 12-bit values by 16).",
    ),
    warning(
        "duplicate-image",
        "Two files hold the same image (same bytes, or same pixels).",
        repair="the later one is left out where both have the same annotations",
        advice="Keep one of them, with the better annotations.",
    ),
    note(
        "empty-image",
        "An image has no objects; it is used as background.",
        advice="Fine if that is what it shows.",
        after="image-id-clash",
    ),
    note("unlisted-image", "An image lies in the folder but not in the file.", advice="Annotate it or leave it."),
    note("alpha-channel", "The image has transparency; it is laid over white.", advice="Fine if white is right."),
    note("deep-image", "The image has 16 bits a channel; it is read with 8.", advice="Fine if 8 bits are enough."),
    note("cmyk-image", "The image is in printing colours (CMYK).", advice="Convert it to RGB and look at it."),
    note("mixed-colour", "Some images are grey, others coloured.", advice="Fine if both kinds occur in use."),
    note(
        "large-image",
        "The image is large; it is shrunk for training.",
        advice="Cut it into tiles where small objects matter.",
    ),
    note(
        "wrong-suffix",
        "The file's suffix names another format than its content.",
        advice="Rename it where a tool needs that.",
    ),
)

SETS = (
    error(
        "in-train-and-val",
        "The same image is in training and validation, so the measured accuracy is too high.",
        repair="left out of the training copy, unless that is more than half of it",
        advice="Is the validation set the same file?",
    ),
    warning(
        "near-duplicate-in-val",
        "Almost the same image is in training and validation.",
        advice="Split by scene, patient, plate or clip instead of by image.",
        after="in-train-and-val",
    ),
    error(
        "val-classes-differ",
        "Training and validation do not have the same classes.",
        advice="Use the same names and ids in both files.",
    ),
    warning("same-class-name", "Two classes have the same name.", repair="they become one"),
    warning(
        "similar-class-names",
        "Two class names differ only in letter case, spaces, hyphens or underscores.",
        advice="Decide whether they are one class, and rename.",
    ),
    warning(
        "class-without-objects",
        "A class has no objects, so it cannot be learned.",
        advice="Annotate it or remove it.",
    ),
    note(
        "class-imbalance",
        "The most frequent class has over 100 times the objects of the rarest.",
        advice="Collect more of the rare class.",
    ),
    warning(
        "rectangular-masks",
        "Most outlines are upright rectangles, that is, boxes.",
        advice="Draw outlines, or train a model of boxes.",
    ),
)
