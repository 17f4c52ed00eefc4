"""Images in and out. Import all of it from here.

`images` reads and writes them, `sources` finds them, `stored` opens files and pages, `tiff` and `deep` decode what
Pillow cannot, `intensity` brings deep values to 8 bits, `windows` and `blocks` read parts of large images.
"""

from maskwright.media.images import SAVED_AS as SAVED_AS
from maskwright.media.images import all_pages as all_pages
from maskwright.media.images import as_image as as_image
from maskwright.media.images import chosen_intensity as chosen_intensity
from maskwright.media.images import encoded as encoded
from maskwright.media.images import page_count as page_count
from maskwright.media.images import read_image as read_image
from maskwright.media.images import read_size as read_size
from maskwright.media.images import read_values as read_values
from maskwright.media.images import stored_of as stored_of
from maskwright.media.images import write_image as write_image
from maskwright.media.intensity import PERCENTILES as PERCENTILES
from maskwright.media.intensity import TURNED as TURNED
from maskwright.media.intensity import Readings as Readings
from maskwright.media.intensity import deep_values as deep_values
from maskwright.media.intensity import measured as measured
from maskwright.media.intensity import rgb_of as rgb_of
from maskwright.media.sources import SUFFIXES as SUFFIXES
from maskwright.media.sources import find_images as find_images
from maskwright.media.stored import MAX_PIXELS as MAX_PIXELS
from maskwright.media.stored import ImageFile as ImageFile
from maskwright.media.stored import Stored as Stored
from maskwright.media.stored import opened as opened
from maskwright.media.windows import Windows as Windows
from maskwright.media.windows import windows_of as windows_of
