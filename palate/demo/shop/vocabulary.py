"""The words of the demo's own shop."""

from __future__ import annotations

# Category -> materials. The first two are natural, the last two made; some users care.
MATERIALS: dict[str, tuple[str, str, str, str]] = {
    "mug": ("stoneware", "clay", "enamel", "steel"),
    "shirt": ("cotton", "linen", "jersey", "polyester"),
    "cushion": ("linen", "wool", "velvet", "microfibre"),
    "poster": ("rag paper", "canvas", "foil print", "vinyl"),
    "bag": ("jute", "cotton", "nylon", "recycled PET"),
    "vase": ("clay", "stoneware", "glass", "resin"),
    "plate": ("stoneware", "wood", "melamine", "enamel"),
    "lamp": ("paper", "linen", "metal", "acrylic"),
    "notebook": ("linen", "recycled paper", "vinyl", "stone paper"),
    "rug": ("wool", "jute", "polypropylene", "viscose"),
    "phone case": ("cork", "bamboo", "silicone", "polycarbonate"),
    "umbrella": ("cotton", "bamboo", "nylon", "polyester"),
}
# fmt: off
LINE_STARTS = (
    "Hal", "Nor", "Bel", "Tor", "Mar", "Lin", "Sol", "Ver", "Ost", "Fen", "Cal", "Bra", "Ren", "Win", "Ald", "Kes",
    "Juna", "Ori", "Pel", "Sten",
)
LINE_ENDS = (
    "den", "by", "mere", "ova", "ia", "wick", "dal", "ford", "ello", "una", "sted", "vik", "lund", "esta", "ora",
    "holm",
)
# fmt: on
USES = {
    "mug": ("Holds 350 ml.", "For the first coffee of the day.", "Fits most coffee machines."),
    "shirt": ("Runs true to size.", "Cut for everyday wear.", "Pre-washed, so it keeps its size."),
    "cushion": ("Filling included.", "The cover comes off for washing.", "Fits sofas and chairs, 45 cm."),
    "poster": ("Ready to hang.", "Framed by hand.", "Comes with a hook and a nail."),
    "bag": ("Carries up to 12 kg.", "Folds flat.", "Room for a laptop and lunch."),
    "vase": ("Watertight.", "Looks well with a single stem.", "Stands 24 cm tall."),
    "plate": ("27 cm, for main courses.", "Stacks well.", "Sold singly."),
    "lamp": ("Takes an E27 bulb.", "Gives a warm light.", "Switch on the cord."),
    "notebook": ("192 pages.", "Lies flat when open.", "Takes fountain pens."),
    "rug": ("140 x 200 cm.", "Lies flat from day one.", "With a backing that does not slip."),
    "phone case": ("Survives a drop from two metres.", "Wireless charging works.", "Raised edge around the screen."),
    "umbrella": ("Withstands gusts of 80 km/h.", "Opens at the press of a button.", "Fits a rucksack."),
}
CARE = ("Ships within two days.", "Wipe clean with a damp cloth.", "Two years' guarantee.", "Made in small runs.")
# fmt: off
# Made-up brands; a shop uses as many as its size asks for.
BRANDS = (
    "Atelier Nord", "Kobo", "Lumen & Co", "Pico", "Maison Verre", "Tidewater", "Oak & Ash", "Fold", "Studio Lark",
    "Brio", "Harrow", "Casa Mira", "Plume", "Quill", "Sundry", "Ember Row", "Northpine", "Gable", "Juniper", "Mono",
    "Patch & Pin", "Rialto", "Saltbox", "Tangram", "Umbra Works", "Velt", "Wren", "Yonder", "Zephyr", "Aurel",
    "Bramble", "Copperfield", "Dune", "Eldon", "Fable", "Gather", "Hearth", "Isle", "Kite", "Loom",
)
# fmt: on
# The shop's word for a colour family; every shade of it has the same word.
COLOURS = {
    "ember": "rust",
    "honey": "mustard",
    "meadow": "green",
    "lagoon": "teal",
    "midnight": "navy",
    "plum": "purple",
    "rose": "pink",
    "slate": "black",
    "cream": "cream",
}
PATTERN_SENTENCES = {
    "plain": "In one colour.",
    "stripes": "With stripes.",
    "checks": "In checks.",
    "dots": "With dots.",
    "zigzag": "With a zigzag.",
    "triangles": "With triangles.",
    "waves": "With waves.",
    "leaves": "With leaves.",
    "flowers": "With flowers.",
    "terrazzo": "In terrazzo.",
    "stars": "With stars.",
}
