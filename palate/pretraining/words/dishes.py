"""Dishes, whose names tell some of what is in them."""

from __future__ import annotations

from palate.pretraining.words.domain import Aspect, Domain

# fmt: off
_CUISINES = (
    "Thai", "Persian", "Italian", "Mexican", "Indian", "Japanese", "French", "Greek", "Moroccan", "Korean", "Turkish",
    "Vietnamese", "Spanish", "Ethiopian", "Peruvian", "Lebanese", "Polish", "Georgian", "Cajun", "Nordic", "Chinese",
    "Portuguese",
)
_INGREDIENTS = (
    "lamb", "lentils", "mint", "chickpeas", "spinach", "lemon", "ginger", "rice", "salmon", "tofu", "mushrooms",
    "aubergine", "walnuts", "feta", "tomatoes", "chicken", "beef", "coconut", "figs", "pumpkin", "beetroot", "prawns",
    "yoghurt", "leeks", "apples", "potatoes", "almonds", "olives", "saffron", "black beans", "cauliflower", "duck",
    "noodles", "sesame", "honey", "garlic", "chilli", "dill", "goat cheese", "oranges",
)
_COURSES = (
    "breakfast", "brunch", "lunch", "dinner", "supper", "picnics", "parties", "weeknights", "feasts", "tea time",
)
_WAYS = (
    "Roasted", "Braised", "Grilled", "Smoky", "Spiced", "Slow-Cooked", "Crispy", "Pickled", "Stuffed", "Glazed",
    "Baked", "Charred", "Steamed", "Warm", "Golden", "Marinated",
)
_FORMS = (
    "Stew", "Soup", "Salad", "Pie", "Curry", "Gratin", "Skewers", "Tart", "Bake", "Bowl", "Dumplings", "Fritters",
    "Casserole", "Wraps", "Flatbread", "Parcels", "Hotpot", "Pilaf",
)
_WHOSE = ("Grandmother's", "Harvest", "Village", "Sunday", "Fisherman's", "Market", "Monastery", "Winter", "Festival")
# fmt: on
DISHES = Domain(
    name="dishes",
    aspects={
        "cuisine": Aspect("{} dishes", _CUISINES),
        "ingredient": Aspect("with {}", _INGREDIENTS, least=2, most=4),
        "course": Aspect("for {}", _COURSES),
    },
    titles=(
        "{way} {ingredient} with {ingredient1}",
        "{ingredient} and {ingredient1} {form}",
        "{way} {ingredient} {form}",
        "{cuisine} {ingredient} {form}",
        "{whose} {form} with {ingredient}",
        "{whose} {ingredient} and {ingredient1}",
        "{form} of {ingredient} and {ingredient1}",
        "{way} {form} with {ingredient} and {ingredient1}",
        "{whose} {cuisine} {form}",
        "{whose} {way} {form}",
    ),
    pools={"way": _WAYS, "form": _FORMS, "whose": _WHOSE},
)
