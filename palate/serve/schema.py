"""What goes in and out of the service, as pydantic models: the OpenAPI page is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from palate.data.identity import check_id

Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
# What is recorded of a user is to be read by `palate prepare`, which refuses ids such as "7.0".
UserId = Annotated[Id, AfterValidator(lambda user: check_id(user, "body.user", "user"))]
Whole = Annotated[int, Field(strict=True)]  # a number as JSON has them: neither true nor "10"
Condition = Annotated[
    str,
    StringConstraints(min_length=2, max_length=512, pattern=r"^[\s\S]+[=<>][\s\S]*$"),
    Field(examples=["genres=Comedy,Drama", "year>=1990"]),
]


class StrictRequest(BaseModel):
    """A request whose unknown keys are errors, so that a misspelt filter is not silently ignored."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Id | None = Field(None, description="Name of a model of /v1/models; by default the first.")


class FilteredRequest(StrictRequest):
    """A request with filters on the items of its answer."""

    allow: list[Id] | None = Field(None, description="Ids of the items that the answer may have; null: all.")
    deny: list[Id] = Field([], description="Ids of items that the answer may not have.")
    only: list[Condition] = Field(
        [],
        max_length=20,
        description="Conditions, all of which an item must meet: `FIELD=VALUE`, `FIELD=ONE,OTHER` or `FIELD<20`.",
    )
    without: list[Condition] = Field(
        [], max_length=20, description="Conditions, none of which an item may meet, written as in `only`."
    )


class TimedHistory(BaseModel):
    """A history, and the times of its items for models that read them."""

    history: list[Id] = Field(description="Item ids, oldest first; empty for a new user.", examples=[["50", "181"]])
    history_times: list[Whole] | None = Field(
        None,
        description="Time of each item of `history`, in Unix milliseconds. Only models with `reads_times` use it, and "
        "they answer without it, too.",
    )
    asked: Whole | None = Field(
        None,
        description="Time at which the next item is asked for, in Unix milliseconds; needs `history_times`. By default "
        "the time of the newest item.",
    )


class RecommendRequest(FilteredRequest, TimedHistory):
    k: Whole = Field(10, ge=1, description="Number of items.")
    exclude_seen: bool = Field(True, description="Leave out the items of the history.")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of being unlike the items before (maximal marginal relevance); 0: order by score alone. "
        "Above 0, scores are still the model's, but need not fall along the list.",
    )
    fields: bool = Field(False, description="Send the other fields of the catalogue with each item.")
    user: UserId | None = Field(
        None,
        description="Id of the user, as `palate prepare` takes it: not 7.0 or 1.2e+5. If `model` is null and traffic "
        "is split, it decides which model answers; it is kept with feedback.",
    )
    record: bool = Field(True, description="Count the answer as shown, in feedback and metrics.")
    explain_rules: bool = Field(False, description="State in `rules` what the business rules did to the answer.")


class SimilarRequest(FilteredRequest):
    item: Id = Field(description="Id of the item to which others are compared.")
    k: Whole = Field(10, ge=1, description="Number of items.")
    by: Id = Field(
        "model",
        description="What to compare by: `model`, or one of the model's `features` in /v1/models (features of texts or "
        "pictures, sources of neighbours).",
        examples=["text"],
    )


class ExplainRequest(StrictRequest, TimedHistory):
    item: Id = Field(description="Id of the item whose score is explained.")


class FeedbackRequest(StrictRequest):
    model: Id | None = Field(None, description="`model` of the response that the items were taken from.")
    request_id: Id | None = Field(
        None, description="`request_id` of that response; null if the items come from elsewhere."
    )
    user: UserId | None = Field(
        None, description="Id of the user who took the items; by default the user of that response."
    )
    items: list[Id] = Field(min_length=1, max_length=1000, description="Ids of the items that were taken.")
    kind: str = Field(
        "click",
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
        description="How they were taken: click, cart, purchase, play, like, or a word of your own.",
    )
    time: Whole | None = Field(None, description="Unix milliseconds, at most 30 days ago; by default now.")


class FeedbackResponse(BaseModel):
    kept: int = Field(description="Number of items, all of them on the disk now.")


class Item(BaseModel):
    """An item as it is shown. Its texts are of unknown origin: escape them."""

    id: str
    title: str = Field(description="Title; the id if it has none.")
    image: str | None = Field(description="Path of its picture at this service; null if it has none.")
    fields: dict[str, Any] | None = Field(
        None, description="The other fields of the catalogue; null in a list, unless the request sets `fields`."
    )


class ScoredItem(Item):
    score: float | None = Field(
        description="Score of the model, or similarity; null for a pinned item that is not among the model's best."
    )


class AppliedRules(BaseModel):
    """What the business rules did to an answer."""

    version: str = Field(description="Version of the rules; changes with the file of rules and its lists.")
    left: int = Field(description="Number of items that the rules allow.")
    left_out: dict[str, int] = Field(description="Number of items that each rule leaves out by itself.")
    items: dict[str, list[str]] = Field(description="Rules that moved an item, by its id.")
    notes: list[str] = Field(description="Items that caps moved, and what could not be done.")
    warnings: list[str] = Field(description="Ids and conditions of the rules that match nothing in the catalogue.")


class ModelResponse(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(description="Name of the model that answered.")
    version: str = Field(description="Version of its bundle; changes when another bundle takes its place.")


class RecommendResponse(ModelResponse):
    request_id: str = Field(
        description="Id of this response, for POST /v1/feedback. It is also the header `x-request-id`, unless the "
        "client has sent an id of its own."
    )
    variant: str | None = Field(description="Model chosen for the user by split traffic; null if nothing was split.")
    items: list[ScoredItem] = Field(description="Best first; fewer than `k` if fewer are left.")
    unknown: list[str] = Field(description="Ids of the request that the model does not know; they were ignored.")
    used: int = Field(description="Number of items of the history that the model knows.")
    rules: AppliedRules | None = Field(
        None, description="What the business rules did; null without `explain_rules`, or if the service has no rules."
    )


class SimilarResponse(ModelResponse):
    item: Item = Field(description="The item to which the others were compared.")
    by: str = Field(description="What they were compared by.")
    items: list[ScoredItem] = Field(description="The most similar first; fewer than `k` if fewer are left.")
    unknown: list[str] = Field(description="Ids of `allow` and `deny` that the model does not know; they were ignored.")


class HistoryEffect(Item):
    """One item of the history, and what the explained score loses without it."""

    position: int = Field(description="Position in the history as it was sent, from 0.")
    effect: float = Field(
        description="Score above the mean of all items with the whole history, minus the same without this item. "
        "Effects do not add up to the score, as items interact."
    )
    rank_without: int | None = Field(description="Rank of the explained item without this one; null if not known.")


class ModalityEffect(BaseModel):
    """What a score loses when the item is scored as if it did not have this modality."""

    modality: str = Field(description="id, text, image ...")
    present: bool = Field(description="Whether the item has this modality.")
    effect: float = Field(description="Score minus the score without this modality; 0 if the item does not have it.")


class SharedField(BaseModel):
    """A field of the catalogue in which two items agree, at least in part."""

    field: str = Field(description="Name of the field.")
    values: list[str] = Field(
        description="Values that both items have; of category paths the part that both begin with."
    )


class SourceEffect(BaseModel):
    """What a source of neighbours adds to a score for one pair of items."""

    source: str = Field(description="Name of the source: co-occurrence (often taken together), or that of features.")
    cosine: float = Field(description="Similarity of the two items by this source.")
    effect: float = Field(description="Part of the score.")


class Neighbour(Item):
    """One of the newest items of the history that the explained item is a neighbour of."""

    position: int = Field(description="Position in the history as it was sent, from 0.")
    lag: int = Field(description="1 for the newest item of the history that the model knows, 2 for the one before ...")
    effect: float = Field(description="Part of the score: the sum of the effects of `sources`.")
    sources: list[SourceEffect] = Field(description="Effects by source, the largest first.")
    shared: list[SharedField] = Field(
        description="Fields in which the two agree; values that most items have are left out."
    )


class ExplainResponse(ModelResponse):
    item: Item = Field(description="The item whose score is explained.")
    score: float = Field(description="Score of the model; of a cascade, the log-odds of its second stage.")
    above_mean: float | None = Field(description="Score above the mean of all items; null for a cascade.")
    rank: int | None = Field(description="Rank among the items outside of the history, from 1; null for a cascade.")
    history: list[HistoryEffect] = Field(
        description="Effects of the items of the history, in its order; of a long history only the newest items."
    )
    modalities: list[ModalityEffect] | None = Field(
        description="Effects of the item's id, text and picture; null if the model has no such parts."
    )
    neighbours: list[Neighbour] | None = Field(
        description="Items of the history that the explained item is a neighbour of, the largest effect first. These "
        "effects are parts of the score and add up. Null if the model has no neighbours."
    )
    notes: list[str] = Field(description="What the explanation leaves out, in sentences.")
    unknown: list[str] = Field(description="Ids of the history that the model does not know; they were ignored.")


class ItemPage(BaseModel):
    items: list[Item] = Field(description="One page of the items that match, the best first.")
    total: int = Field(description="Number of items that match.")


class NeighbourSource(BaseModel):
    """One of the sources whose nearest items add to the scores of a model."""

    source: str = Field(description="Name of the source: co-occurrence (in the training log), or that of features.")
    weights: list[float] = Field(description="Weight of a cosine by lag: for the newest item of a history first.")
    coverage: float = Field(description="Share of the items that have neighbours by this source.")


class ModelFacts(BaseModel):
    name: str = Field(description="Name by which requests choose the model.")
    kind: str = Field(description="Kind of model: sasrec, popularity, mllm ...")
    version: str = Field(description="Version of its bundle; changes when another bundle takes its place.")
    items: int = Field(description="Number of items in its catalogue.")
    modalities: list[str] = Field(description="What it reads of an item: id, text, image ...")
    objective: str | None = Field(description="Objective of its training or alignment; null if it has none.")
    retriever: str | None = Field(description="Name of the model that proposes the items; null without a cascade.")
    metrics: dict[str, Any] = Field(description="Results of the validation, and the primary metric of each test.")
    features: list[str] = Field(description="What /v1/similar can compare by, besides `model`.")
    neighbours: list[NeighbourSource] | None = Field(
        description="Sources of the neighbours that add to its scores; null if it has none."
    )
    fields: list[str] = Field(description="Fields of the catalogue, which `only` and `without` can name.")
    explains: bool = Field(description="Whether it answers /v1/explain.")
    reads_times: bool = Field(description="Whether answers depend on `history_times`.")
    diversifies: bool = Field(description="Whether requests may set `diversity`, which needs item vectors.")
    compares: bool = Field(description="Whether /v1/similar can compare by `model`.")


class FieldValue(BaseModel):
    value: str
    items: int = Field(description="Number of items with this value.")


class FieldSummary(BaseModel):
    """A field of the catalogue that conditions can name."""

    name: str
    kind: Literal["text", "number"] = Field(description="Numbers can be compared: `price<20`.")
    low: float | None = Field(description="Smallest number; null for a text.")
    high: float | None = Field(description="Largest number; null for a text.")
    values: list[FieldValue] = Field(description="Frequent values, the most frequent first; empty for numbers.")


class Fields(BaseModel):
    fields: list[FieldSummary]


class Models(BaseModel):
    models: list[ModelFacts] = Field(description="The first is the default.")


class Block(BaseModel):
    """A block of a user's history, and the preference that was written after it."""

    items: list[Item] = Field(description="Items of the block, oldest first.")
    text: str = Field(description="The written preference.")


class DemoUser(BaseModel):
    """An example user."""

    id: str
    history: list[Item] = Field(description="Items that the user took, oldest first.")
    held_out: list[Item] = Field(description="Items that the user took next.")
    preference: list[Block] = Field(
        description="Written preferences, one for each block of the history; empty if there are none."
    )


class DemoUsers(BaseModel):
    users: list[DemoUser]


class ErrorBody(BaseModel):
    code: str = Field(description="Kind of error, for programs: `invalid`, `no-item`, `busy` ...")
    message: str = Field(description="What is wrong.")
    remedy: str | None = Field(None, description="What to do about it.")


class Failure(BaseModel):
    """Every error has this form."""

    error: ErrorBody


class Health(BaseModel):
    status: Literal["ok", "loading", "stopping"] = Field(description="State of the service.")


class ReloadResponse(BaseModel):
    models: list[str] = Field(description="Names of all models.")
    changed: list[str] = Field(description="Names of the models whose bundle was replaced.")
