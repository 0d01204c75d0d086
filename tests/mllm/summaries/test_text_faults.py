"""The faults of written texts: what is one, and what is ordinary writing."""

from __future__ import annotations

import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.mllm.prompts.items import Items
from palate.mllm.summaries.counts import WritingCounts
from palate.mllm.summaries.faults import TextCheck, TextFaults
from palate.mllm.summaries.vocabulary import Titles, Vocabulary
from palate.mllm.summaries.words import longest_shared_run

TITLES = ["Renbury jute bag, teal", "Sollund clay vase, cream", "Maria paper lamp, red", "Toy Story (1995)", "Heat"]
SO_FAR = "Likes teal bags of jute and plain, quiet things for the home. Reads a little into materials."
GOOD = "Likes calm things of jute and clay, in teal and cream. Lately vases more than bags."


@pytest.fixture(scope="module")
def check() -> TextCheck:
    frame = pl.DataFrame(
        {
            "item_id": [f"p{number}" for number in range(5)],
            "title": TITLES,
            "image": [None] * 5,
            "brand": ["Wren", "Wren", "Casa Mira", None, None],
            "category": ["bag", "vase", "lamp", "other", "new style"],
            "genres": [None, None, None, ["Comedy", "Film-Noir"], ["Crime", "Science Fiction"]],
            "description": [
                f"A long description of thing number {number}, warm and red or blue" for number in range(5)
            ],
        },
        schema_overrides={"image": pl.String},
    )
    catalogue = Catalogue(frame)
    return TextCheck(Items.of(catalogue, fields=["category"]), Vocabulary(catalogue))


def faults(check: TextCheck, text: str, so_far: str | None = SO_FAR) -> TextFaults:
    """Of a text whose prompt showed the bag and the vase."""
    return check.preference(text, [1, 2], so_far)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "Likes teal bags of jute. Now likes teal bags of jute with stripes as well, and vases.",
        "This person prefers warm, hand-made homeware by Wren: simple shapes, natural materials, one quiet colour.",
        "Likes teal bags of jute and plain, quiet things for the home, and more and more vases in cream.",
        "喜欢温暖的颜色和手工制作的杯子。",
        "Jute.",
        "",
    ],
)
def test_ordinary_texts_have_no_fault(check: TextCheck, text: str) -> None:
    assert faults(check, text).names == ()


@pytest.mark.parametrize(
    "text",
    [
        "Likes calm jute. Likes vases too. Likes calm jute.",
        "A classic example of a subject, a classic example of a mood, and a classic example of calm.",
        "Soft lines and warm colours by day, soft lines and warm colours by night, soft lines and warm walls.",
    ],
)
def test_a_text_that_repeats_itself(check: TextCheck, text: str) -> None:
    assert faults(check, text).names == ("repeats",)


def test_a_title_is_a_copy_in_any_case_and_its_words_are_not(check: TextCheck) -> None:
    assert faults(check, "The user took the renbury jute bag, teal.").quoted == (TITLES[0],)
    assert faults(check, "The user took jute bags in teal by Renbury.").names == ()


def test_half_of_a_text_in_one_run_of_an_item_is_a_copy(check: TextCheck) -> None:
    frame = pl.DataFrame(
        {"item_id": check.items.ids[1:], "title": TITLES, "image": pl.Series([None] * 5, dtype=pl.String)}
    )
    shown = Items.of(Catalogue(frame), {"p0": "a deep bag with two short handles"})
    with_text = TextCheck(shown, check.vocabulary)
    assert with_text.preference("Likes a deep bag with two short handles.", [1], None).names == ("copies",)
    long = "Likes a deep bag with two short handles, but also things for a quiet home, such as cream and clay."
    assert with_text.preference(long, [1, 2], None).names == ()


def test_the_preference_so_far_may_be_added_to_and_not_just_repeated(check: TextCheck) -> None:
    assert faults(check, SO_FAR).names == ("copies", "unchanged")
    assert faults(check, SO_FAR.upper().replace(".", "!")).unchanged
    assert faults(check, f"{SO_FAR} Often.").names == ("copies",)
    assert faults(check, f"{SO_FAR} Lately cream vases of clay.").names == ()
    assert faults(check, SO_FAR, None).names == ()


@pytest.mark.parametrize(
    ("text", "unseen"),
    [
        ("Likes lamps and vases.", ("lamp",)),
        ("Likes vases by casa mira.", ("Casa Mira",)),
        ("Likes science fiction and crime, and new styles of others.", ("Science Fiction", "Crime")),
        ("Likes film noir.", ("Film-Noir",)),
        ("Would watch Toy Story again.", ("Toy Story (1995)",)),
        ("Would watch a toy story in the heat again.", ()),  # words, not titles
        ("Would watch 'Heat' again.", ("Heat",)),
        ("The Maria paper lamp, red, would suit.", ("Maria paper lamp, red", "lamp")),
    ],
)
def test_what_the_prompt_did_not_show(check: TextCheck, text: str, unseen: tuple[str, ...]) -> None:
    assert faults(check, text).unseen == unseen
    known = "Lamps, Casa Mira, crime, film-noir, science fiction, Maria, paper, red, Toy Story 1995, heat"
    assert faults(check, text, known).unseen == ()


def test_a_summary_of_an_item_may_name_its_title_and_what_its_fields_say(check: TextCheck) -> None:
    assert check.item("The Maria paper lamp, red, is a small light on thin legs.", 3).names == ()
    assert check.item("A red paper lamp by Casa Mira beside a vase.", 3).unseen == ("vase",)


@pytest.mark.parametrize(
    ("title", "text", "found"),
    [
        ("Matrix, The (1999)", "Liked The Matrix a lot", True),
        ("Matrix, The (1999)", "Liked the matrix of it", False),  # a title of two words, in other spelling
        ("Shawshank Redemption, The (1994)", "liked the shawshank redemption", True),
        ("It", 'They liked "It".', True),
        ("It", "It is good, isn't it", False),
    ],
)
def test_titles_in_their_forms(title: str, text: str, found: bool) -> None:
    assert Titles([title]).in_text(text) == ([title] if found else [])


def test_the_longest_run_is_within_one_line() -> None:
    assert longest_shared_run(["a", "b", "c", "d"], [["a", "b"], ["c", "d", "x"], ["b", "c", "d"]]) == 3
    assert longest_shared_run([], [["a"]]) == longest_shared_run(["a"], []) == 0


def test_counts_are_of_the_texts_that_were_checked() -> None:
    texts = {"a": "one", "b": "one", "c": "two", "d": "three"}
    counts = WritingCounts.of(texts, {"a": ["repeats"], "b": ["copies", "unchanged"], "c": [], "gone": ["unseen"]})
    assert counts == WritingCounts(texts=4, distinct=3, checked=3, repeating=1, copying=1, unchanged=1, naming_unseen=0)
    assert "of 3 that were checked, 1 repeat themselves (33.3%)" in str(counts)
    assert "not counted" in str(WritingCounts.of(texts, {}))
    assert str(WritingCounts.of({}, {})) == "There are no texts."
