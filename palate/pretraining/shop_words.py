"""Words that drawn shops choose theirs from: materials, uses, colours, patterns, names and titles."""

from __future__ import annotations

# Natural materials, then made ones.
Materials = tuple[tuple[str, ...], tuple[str, ...]]
_CLOTH: Materials = (
    ("cotton", "linen", "wool", "hemp", "silk", "ramie"),
    ("polyester", "nylon", "jersey", "microfibre", "viscose", "fleece"),
)
_WARE: Materials = (
    ("stoneware", "clay", "porcelain", "wood", "earthenware"),
    ("enamel", "steel", "glass", "resin", "melamine", "aluminium"),
)
_PAPER: Materials = (
    ("rag paper", "recycled paper", "canvas", "linen", "bamboo paper"),
    ("vinyl", "foil print", "stone paper", "plastic film", "acrylic"),
)
_WOOD: Materials = (
    ("oak", "ash", "beech", "rattan", "bamboo"),
    ("steel", "acrylic", "aluminium", "plastic", "fibreboard"),
)
_HARD: Materials = (
    ("cork", "bamboo", "leather", "wood"),
    ("silicone", "polycarbonate", "rubber", "recycled plastic"),
)
_WAX: Materials = (("beeswax", "soy wax", "rapeseed wax", "olive wax"), ("paraffin", "stearin", "gel wax", "palm wax"))

# Kind -> materials, and sentences of its use.
KINDS: dict[str, tuple[Materials, tuple[str, ...]]] = {
    "mug": (_WARE, ("For tea and coffee.", "Safe in the dishwasher.", "A handle for two fingers.")),
    "shirt": (_CLOTH, ("A loose fit.", "Wash at 30 degrees.", "Goes under any jacket.")),
    "cushion": (_CLOTH, ("With a hidden zip.", "Soft enough for a nap.", "50 x 50 cm.")),
    "poster": (_PAPER, ("For the hall or the kitchen.", "Printed to order.", "50 x 70 cm, framed.")),
    "bag": (_CLOTH, ("For the market.", "With a pocket inside.", "Fits over the shoulder.")),
    "vase": (_WARE, ("For one branch or a bunch.", "Heavy enough to stand firm.", "30 cm tall.")),
    "plate": (_WARE, ("For the everyday table.", "Safe in the oven.", "22 cm across.")),
    "lamp": (_PAPER, ("For the bedside.", "With a dimmer.", "45 cm tall.")),
    "notebook": (_PAPER, ("Lined, 160 pages.", "Fits a coat pocket.", "For lists and drawings.")),
    "rug": (_CLOTH, ("Warm under bare feet.", "Woven flat.", "120 x 180 cm.")),
    "phone case": (_HARD, ("Thin, yet sturdy.", "All buttons stay free.", "Easy to hold.")),
    "umbrella": (_CLOTH, ("Dries fast.", "For two people.", "A frame that bends and does not break.")),
    "sock": (_CLOTH, ("Stays up all day.", "Sold as a pair.", "A seamless toe.")),
    "skirt": (_CLOTH, ("Falls below the knee.", "With side pockets.", "Fully lined.")),
    "tie": (_CLOTH, ("Ties well in a small knot.", "For the office and for weddings.", "8 cm at its widest.")),
    "backpack": (_CLOTH, ("Holds 20 litres.", "A sleeve for a laptop.", "Padded at the back.")),
    "scarf": (_CLOTH, ("For the first cold days.", "180 cm long.", "Fringed at both ends.")),
    "mitten": (_CLOTH, ("Lined and warm.", "For snow and for bicycles.", "Sold as a pair.")),
    "apron": (_CLOTH, ("With a wide pocket.", "Ties at the back.", "For cooks and potters.")),
    "bottle": (_WARE, ("Holds half a litre.", "Closes tight.", "For oil, juice or water.")),
    "box": (_PAPER, ("With a lid that fits.", "For letters and small things.", "A present in itself.")),
    "bowl": (_WARE, ("For soup or salad.", "Nests with others.", "18 cm across.")),
    "candle": (_WAX, ("Burns for 40 hours.", "Without scent.", "Comes with its dish.")),
    "curtain": (_CLOTH, ("Keeps the morning out.", "A pair, 140 cm wide each.", "Hangs from rings or a rail.")),
    "mirror": (_WOOD, ("For the hall.", "Hangs either way.", "80 cm tall.")),
    "plant pot": (_WARE, ("With a hole for water.", "Plant not included.", "For indoors and out.")),
    "teapot": (_WARE, ("Pours without a drop.", "With a strainer.", "Enough for four cups.")),
    "hat": (_CLOTH, ("Keeps sun and rain off.", "Folds into a bag.", "In three sizes.")),
    "clock": (_WOOD, ("Runs without a sound.", "One battery a year.", "For the kitchen wall.")),
    "chair": (_WOOD, ("Carries 120 kg.", "Comes in one piece.", "For the desk or the table.")),
}

CARE = (
    "Sent in plain card.", "Returns within 30 days.", "Made by hand.", "Designed in our own workshop.",
    "New this year.", "A favourite of ours.", "Packed without plastic.", "Repaired for free.", "Only a few are left.",
    "Good as a present.",
)  # fmt: skip

# The words for a colour family and for a pattern; the first of each is the plain one, which traits use.
COLOURS = {
    "ember": ("rust", "terracotta", "copper", "burnt orange"),
    "honey": ("mustard", "ochre", "amber", "honey"),
    "meadow": ("green", "leaf green", "moss", "grass green"),
    "lagoon": ("teal", "petrol", "turquoise", "aqua"),
    "midnight": ("navy", "dark blue", "midnight blue", "indigo"),
    "plum": ("purple", "plum", "aubergine", "violet"),
    "rose": ("pink", "rose", "blush"),
    "slate": ("black", "charcoal", "anthracite"),
    "cream": ("cream", "ivory", "off-white", "ecru"),
}
PATTERNS = {
    "plain": ("plain",),
    "stripes": ("stripes", "pinstripes", "lines"),
    "checks": ("checks", "squares", "a chequered print"),
    "dots": ("dots", "spots", "polka dots"),
    "zigzag": ("zigzag", "a zigzag", "chevrons"),
    "triangles": ("triangles", "small triangles"),
    "waves": ("waves", "wavy lines", "ripples"),
    "leaves": ("leaves", "foliage", "a leaf print"),
    "flowers": ("flowers", "blossoms", "a floral print"),
    "terrazzo": ("terrazzo", "terrazzo chips", "a terrazzo print"),
    "stars": ("stars", "little stars", "a starry print"),
}
PLAIN_SENTENCES = ("In one colour.", "Plain.", "Without a pattern.", "In a single shade.")
PATTERN_SENTENCES = ("With {}.", "Printed with {}.", "Decorated with {}.", "Covered in {}.", "Pattern: {}.")

TITLES = (
    "{line} {material} {kind}, {colour}",
    "{colour} {kind} '{line}'",
    "{brand} {line} {kind}",
    "{line}",
    "{kind} {line}",
    "{brand} {line}",
    "{line} {kind} - {colour}",
    "{brand} {material} {kind} in {colour}",
    "{material} {kind} '{line}', {colour}",
    "{line} {kind} by {brand}",
)

LINE_STARTS = (
    "Ama", "Bor", "Cor", "Dar", "Ela", "Fir", "Gal", "Hel", "Isa", "Jor", "Kal", "Lor", "Mir", "Nel", "Oda", "Per",
    "Ro", "San", "Tal", "Ul", "Vin", "Wes", "Yar", "Zel", "Bri", "Cle", "Dor", "Fay", "Gri", "Hav", "Lumi", "Pip",
)  # fmt: skip
LINE_ENDS = (
    "a", "ala", "an", "bek", "do", "era", "field", "gate", "ika", "in", "is", "la", "low", "mar", "na", "nes",
    "oro", "ra", "rick", "sen", "ta", "ton", "va", "well", "wyn", "za",
)  # fmt: skip
BRANDS = (
    "Aster", "Barley", "Cinder", "Dovetail", "Elm Street", "Foxglove", "Grain", "Hopper", "Inkwell", "Jasper", "Kelp",
    "Larder", "Marlow", "Nettle", "Orchard", "Pewter", "Quarry", "Rowan", "Sparrow", "Thistle", "Upland", "Vesper",
    "Willow & Sons", "Xenia", "Yarrow", "Zinc", "Basalt", "Clover", "Drift", "Eider", "Flint", "Ginkgo", "Heron",
    "Ivory Lane", "Jetty", "Kiln", "Linden", "Magpie", "Nook", "Otter",
)  # fmt: skip
# For names that are made of syllables.
BRAND_STARTS = (
    "Al",
    "Be",
    "Cas",
    "Di",
    "Em",
    "Fu",
    "Go",
    "Hu",
    "In",
    "Ka",
    "Lo",
    "Mo",
    "Ni",
    "Os",
    "Pa",
    "Ri",
    "Su",
    "To",
)
BRAND_ENDS = ("bo", "chi", "dra", "fe", "go", "ko", "lli", "mo", "nn", "po", "ri", "ssa", "tti", "vo", "x", "zu")
BRAND_FORMS = ("{}", "{}", "{} & Co", "Studio {}", "House of {}", "{} Goods", "{} Works", "Atelier {}")
