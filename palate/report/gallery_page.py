"""The gallery as markup."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from palate.report.charts import colour_class
from palate.report.markup import Child, Html, clean, join, outside, tag
from palate.report.pictures import Pictures

Item = Mapping[str, Any]


def section(gallery: Mapping[str, Any], pictures: Pictures, colours: Mapping[str, int]) -> Html | None:
    """All users; None where there is nobody."""
    users = gallery["users"]
    notes = [tag("p", note, class_="quiet") for note in gallery["notes"]] or None
    if not users:
        return join(tag("h2", "Gallery"), notes) if notes else None
    first = next((number for number, user in enumerate(users) if user["preferences"]), None)
    articles = [_user(user, number, pictures, colours, opened=number == first) for number, user in enumerate(users)]
    return join(tag("h2", "Gallery"), tag("p", gallery["told"], class_="quiet"), notes, articles)


def _user(user: Mapping[str, Any], number: int, pictures: Pictures, colours: Mapping[str, int], opened: bool) -> Html:
    name, had, shown = f"user-{number}", user["had"], len(user["history"])
    told = f"the last {shown} of {had:,}, newest last" if had > shown else "oldest first"
    more = f"and {user['more_targets']} more" if user["more_targets"] else "held out"
    past = tag(
        "div",
        _lane("Had", told if had else "a newcomer", [_tile(item, pictures) for item in user["history"]]),
        _lane("Took next", more, [_tile(item, pictures, hit=True) for item in user["targets"]], "next"),
        class_="past",
    )
    models = []
    for model in user["models"]:
        tiles = [_tile(item, pictures, rank, item["hit"]) for rank, item in enumerate(model["items"], 1)]
        swatch = tag("span", class_=f"swatch {colour_class(colours.get(model['label'], 0))}", aria_hidden="true")
        models.append(_lane(join(swatch, outside(model["label"])), _ranked(model), tiles))
    return tag(
        "article",
        tag("h3", "User ", outside(user["user"]), tag("small", f" {had:,} {'item' if had == 1 else 'items'}"), id=name),
        past,
        tag("div", models, class_="models") if models else None,
        [_preference(one, pictures, opened) for one in user["preferences"]],
        class_="user",
        aria_labelledby=name,
    )


def _ranked(model: Mapping[str, Any]) -> Html:
    """Where the held-out item came in."""
    ranks, listed = model["ranks"], len(model["items"])
    if not ranks:
        return join("")
    best = min(ranks)
    place = (
        f"held-out item at rank {best:,} of {model['of']:,}"
        if len(ranks) == 1
        else f"best held-out item at rank {best:,}"
    )
    return tag("span", f"✓ {place}", class_="good") if best <= listed else join(place)


def _lane(name: Child, told: Child, tiles: Sequence[Html], class_: str = "") -> Html:
    strip = tag("ol", tiles, class_="strip") if tiles else tag("p", "nothing", class_="quiet")
    return tag("div", tag("h4", name, tag("small", told)), strip, class_=f"lane {class_}".strip())


def _tile(item: Item, pictures: Pictures, rank: int | None = None, hit: bool = False) -> Html:
    badge = tag("span", "✓ ", tag("span", "taken ", class_="unseen"), "next", class_="badge") if hit else None
    number = tag("span", rank, class_="rank") if rank is not None else None
    return tag(
        "li",
        tag("figure", tag("div", _picture(item, pictures), number, badge, class_="pic"), _caption(item, pictures)),
        class_="tile hit" if hit else "tile",
    )


def _caption(item: Item, pictures: Pictures) -> Html:
    if pictures.uri(item["index"]) is None:  # its title stands where the picture would
        return tag("figcaption", "no picture", title=item["title"])
    return tag("figcaption", outside(item["title"]), title=item["title"])


def _picture(item: Item, pictures: Pictures) -> Html:
    uri = pictures.uri(item["index"])
    if uri is None:
        return tag("div", outside(item["title"]), class_="blank", role="img", aria_label=f"No picture: {item['title']}")
    return tag("img", src=uri, alt=f"Picture of {item['title']}", decoding="async")


def _preference(one: Mapping[str, Any], pictures: Pictures, opened: bool) -> Html:
    """Block by block: what was read, and what was written after it; what is new stands out."""
    steps, before = [], ""
    for number, step in enumerate(one["steps"]):
        seen = [tag("li", _picture(item, pictures), title=item["title"], class_="thumb") for item in step["items"][:6]]
        more = len(step["items"]) - len(seen)
        titles = ", ".join(clean(item["title"]) for item in step["items"])
        steps.append(
            tag(
                "li",
                tag("ul", seen, tag("li", f"+{more}", class_="thumb") if more > 0 else None, class_="block"),
                tag(
                    "div",
                    tag("p", "After ", outside(titles), class_="quiet"),
                    tag(
                        "blockquote", _new_words(before, step["text"]) if number else outside(step["text"]), dir="auto"
                    ),
                ),
            )
        )
        before = step["text"]
    told = f"Written preference, {len(steps)} {'step' if len(steps) == 1 else 'steps'}"
    by = tag("small", " by ", outside(one["model"]), ", stored as ", outside(one["by"]))
    return tag("details", tag("summary", told, by), tag("ol", steps, class_="steps"), class_="preference", open=opened)


def _new_words(before: str, text: str) -> Html:
    """The text, with the words that the one before did not have at that place marked as inserted."""
    old, new = clean(before).split(" "), clean(text).split(" ")
    parts: list[Child] = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        words = " ".join(new[start:end])
        if words:
            parts += [tag("ins", words) if kind in ("insert", "replace") else words, " "]
    return tag("bdi", parts)
