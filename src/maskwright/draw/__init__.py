"""Drawing of instances: overlays, cut-outs and label maps. Import all of it from here.

`overlay` draws, by means of `shapes`, `texts` and `colours`; `segments` draws panoptic maps; `cutouts` takes instances
out of their image.
"""

from maskwright.draw.colours import ColourBy as ColourBy
from maskwright.draw.colours import check_colour as check_colour
from maskwright.draw.colours import colour_of as colour_of
from maskwright.draw.colours import score_colour as score_colour
from maskwright.draw.cutouts import MOST_LABELS as MOST_LABELS
from maskwright.draw.cutouts import cutouts as cutouts
from maskwright.draw.cutouts import label_map as label_map
from maskwright.draw.overlay import checked as checked
from maskwright.draw.overlay import overlay as overlay
from maskwright.draw.overlay import reduced as reduced
from maskwright.draw.segments import segments as segments
