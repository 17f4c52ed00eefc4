"""The faults of the file, its records and the images: entries of `table.FAULTS`."""

from maskwright.data.faults.fault import error, note, warning

FILE = (
    error(
        "unreadable-annotations",
        "The annotations cannot be read at all, or a section of the file is missing.",
        "",
        "Export them again, or name their format.",
    ),
    error(
        "malformed-record",
        "A record is not a JSON object, or lacks a field it cannot do without.",
        "annotations of this kind are left out",
        "Add the field or remove the record.",
    ),
    error("no-objects", "Not one object is annotated.", "", "Annotate the images; was the right file exported?"),
)

IDS = (
    error(
        "image-id-clash",
        "Two image records have the same id.",
        "a record that is there twice is kept once",
        "Give each image its own id, and its annotations with it.",
    ),
    error("annotation-id-clash", "Two annotations have the same id.", "the later one gets a new id", ""),
    error(
        "category-id-clash",
        "Two classes have the same id.",
        "a class that is there twice is kept once",
        "Find out which class the annotations mean, and number the classes apart.",
    ),
    error(
        "unknown-category",
        "An annotation names a class that the file does not list.",
        "the class is added under the name 'class ID', to be renamed",
        "Add the class.",
    ),
    error(
        "unknown-image",
        "An annotation belongs to an image that the file does not list.",
        "the annotation is left out",
        "Add the image.",
    ),
    warning(
        "id-as-text",
        "Ids are written as text or with a decimal point; other tools do not match them.",
        "they become whole numbers",
        "",
    ),
    warning("negative-id", "An id is negative; tools use such numbers for 'none'.", "a new id", ""),
    warning(
        "annotation-id-zero",
        "An annotation has the id 0: COCO's own evaluation takes a match with it for a miss.",
        "a new id",
        "",
    ),
)

IMAGES = (
    error(
        "bad-size",
        "Height or width of an image record is missing, not a positive whole number or absurdly large.",
        "taken from the image",
        "Write the image's size into its record.",
    ),
    error(
        "missing-image",
        "The image file does not exist.",
        "the name becomes that of the one file it surely means; else the image and its objects are left out, unless "
        "more than half are missing",
        "Bring the file back, or give the right image folder.",
    ),
    error(
        "file-name-spelling",
        "The image file exists under another spelling: letter case, accents, backslashes.",
        "the name becomes that of the file",
        "",
    ),
    warning(
        "unsafe-file-name",
        "A file name is absolute or leaves the image folder with '..'; the set cannot be moved.",
        "the copy has the image under a plain name",
        "",
    ),
    error(
        "duplicate-file-name",
        "Two image records name the same file, so the objects of one are background for the other.",
        "the records become one with the objects of both, if their sizes agree",
        "Correct the size of the wrong record.",
        "image-id-clash",
    ),
    error(
        "unreadable-image",
        "The file is empty, not an image, or of a kind that is not read.",
        "the image and its objects are left out",
        "Export it again as PNG or JPEG.",
    ),
    error(
        "truncated-image",
        "The image begins well but is cut off or damaged.",
        "the image and its objects are left out",
        "Fetch the file again.",
    ),
    error(
        "oversized-image",
        "The image has more pixels than are read (a guard against decompression bombs).",
        "",
        "Cut it into tiles.",
    ),
    error(
        "exif-rotation",
        "The annotations were drawn before the image's EXIF rotation was applied, so they lie across it.",
        "the image is written without the tag, as PNG, its pixels where the annotations expect them",
        "",
    ),
    error(
        "size-disagrees",
        "The record states another size than the image has.",
        "outlines are scaled where the image was resized; the record is corrected where the outlines fit the image",
        "Find out whether the image was resized, cropped or replaced after it was annotated.",
        "exif-rotation",
    ),
    warning(
        "exif-tag",
        "The image is turned by an EXIF tag, which many tools ignore.",
        "the turned pixels are written without the tag, as PNG, where the annotated size says that they are meant",
        "Look at the image with its annotations, turn its pixels and remove the tag.",
        "exif-rotation",
        "size-disagrees",
    ),
    warning("blank-image", "All pixels of the image are the same.", "", "Was the right image exported?"),
    warning(
        "multi-frame-image",
        "The file holds several frames or pages; only the first is used.",
        "",
        "Write the frame that was annotated to a file of its own.",
    ),
    warning(
        "dim-image",
        "A 16-bit image uses only the lowest of its bits, so it is read as almost black.",
        "",
        "Scale it to the full range (multiply 12-bit values by 16).",
    ),
    warning(
        "duplicate-image",
        "Two files hold the same image (same bytes, or same pixels).",
        "the later one is left out where both have the same annotations",
        "Keep one of them, with the better annotations.",
    ),
    note(
        "empty-image",
        "An image has no objects; it is used as background.",
        "",
        "Fine if that is what it shows.",
        "image-id-clash",
    ),
    note("unlisted-image", "An image lies in the folder but not in the file.", "", "Annotate it or leave it."),
    note("alpha-channel", "The image has transparency; it is laid over white.", "", "Nothing, if white is right."),
    note("deep-image", "The image has 16 bits a channel; it is read with 8.", "", "Nothing, if 8 bits will do."),
    note("cmyk-image", "The image is in printing colours (CMYK).", "", "Convert it to RGB and look at it."),
    note("mixed-colour", "Some images are grey, others coloured.", "", "Fine if both will be met later on."),
    note(
        "large-image",
        "The image is large; it is shrunk for training.",
        "",
        "Cut it into tiles where small objects matter.",
    ),
    note("wrong-suffix", "The file's suffix names another format than its content.", "", "Rename it, if a tool minds."),
)

SETS = (
    error(
        "in-train-and-val",
        "The same image is in training and validation, so the measured accuracy is too high.",
        "the training copy goes without it, unless that is more than half of it",
        "Is the validation set the same file?",
    ),
    warning(
        "near-duplicate-in-val",
        "Almost the same image is in training and validation.",
        "",
        "Split by scene, patient, plate or clip instead of by image.",
        "in-train-and-val",
    ),
    error(
        "val-classes-differ",
        "Training and validation do not have the same classes.",
        "",
        "Use the same names and ids in both files.",
    ),
    warning("same-class-name", "Two classes have the same name.", "they become one", ""),
    warning(
        "similar-class-names",
        "Two class names differ only in letter case, spaces, hyphens or underscores.",
        "",
        "Decide whether they are one class, and rename.",
    ),
    warning(
        "class-without-objects", "A class has no objects, so it cannot be learned.", "", "Annotate it or remove it."
    ),
    note(
        "class-imbalance",
        "The most frequent class has over 100 times the objects of the rarest.",
        "",
        "Collect more of the rare class.",
    ),
    warning(
        "rectangular-masks",
        "Most outlines are upright rectangles: boxes in disguise.",
        "",
        "Draw outlines, or train a model of boxes.",
    ),
)
