"""What goes in and out of the service, as pydantic models: the OpenAPI page is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Whole = Annotated[int, Field(strict=True)]  # a number as JSON has them: neither true nor "10"
Condition = Annotated[
    str,
    StringConstraints(min_length=2, max_length=512, pattern=r"^[\s\S]+[=<>][\s\S]*$"),
    Field(examples=["genres=Comedy,Drama", "year>=1990"]),
]


class RequestFilter(BaseModel):
    """A request: unknown keys are errors, so that a misspelt filter is not left out in silence."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Id | None = Field(None, description="One of /v1/models; the first of them by default.")


class FilteredRequest(RequestFilter):
    """A request with filters on the items of its answer."""

    allow: list[Id] | None = Field(None, description="Only these items may be recommended.")
    deny: list[Id] = Field([], description="These items may not.")
    only: list[Condition] = Field(
        [], max_length=20, description="FIELD=VALUE, FIELD=ONE,OTHER or FIELD<20; an item must meet all of them."
    )
    without: list[Condition] = Field([], max_length=20, description="The same; an item must meet none of them.")


class TimedHistory(BaseModel):
    """A history, and when its items were taken, for the models that read times."""

    history: list[Id] = Field(description="Item ids, oldest first. Empty: a newcomer.", examples=[["50", "181"]])
    history_times: list[Whole] | None = Field(
        None,
        description="Unix milliseconds at which the items were taken, one for each; models that read times answer "
        "without them, too.",
    )
    asked: Whole | None = Field(
        None,
        description="With history_times: Unix milliseconds at which the next item is asked for; by default when the "
        "newest one was taken.",
    )


class RecommendRequest(FilteredRequest, TimedHistory):
    k: Whole = Field(10, ge=1, description="How many items; the service has a limit of its own.")
    exclude_seen: bool = Field(True, description="Leave out the items of the history.")
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Above 0, each next item is also chosen for being unlike those before it (maximal marginal "
        "relevance with this weight). The scores stay the model's; the order is not theirs any more.",
    )
    fields: bool = Field(False, description="Send what else the catalogue knows of each item.")
    user: Id | None = Field(
        None, description="Who the answer is for: chooses the model where traffic is split, and is kept with feedback."
    )
    record: bool = Field(True, description="Whether the answer counts as shown, in feedback and metrics.")
    explain_rules: bool = Field(False, description="Say which business rules shaped the answer.")


class SimilarRequest(FilteredRequest):
    item: Id
    k: Whole = Field(10, ge=1)
    by: Id = Field(
        "model",
        description="Likeness (cosine) in the model's own vectors, in the features of texts or pictures, or by the "
        "lists of a source of its neighbours: what /v1/models names under features.",
        examples=["text"],
    )


class ExplainRequest(RequestFilter, TimedHistory):
    item: Id = Field(description="The item whose score is explained.")


class FeedbackRequest(RequestFilter):
    model: Id | None = Field(None, description="That answered, as the answer states it.")
    request_id: Id | None = Field(None, description="Of the answer; null where the items come from elsewhere.")
    user: Id | None = Field(None, description="Who took the items; by default the one whom the answer was for.")
    items: list[Id] = Field(min_length=1, max_length=1000, description="Item ids.")
    kind: str = Field(
        "click",
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
        description="How they were taken: click, cart, purchase, play, like, or a word of your own.",
    )
    time: Whole | None = Field(None, description="Unix milliseconds; by default now. At most 30 days ago.")


class FeedbackResponse(BaseModel):
    kept: int = Field(description="Items that are on the disk now.")


class Item(BaseModel):
    """An item as people see it. Texts are of unknown origin: escape them."""

    id: str
    title: str
    image: str | None = Field(description="Path of its picture at this service, or null.")
    fields: dict[str, Any] | None = None


class ScoredItem(Item):
    score: float | None = Field(description="The model's; null for an item that a rule put there.")


class AppliedRules(BaseModel):
    """What the business rules did to an answer."""

    version: str = Field(description="Of the rules' files; changes with each of their changes.")
    left: int = Field(description="Items of the catalogue that the rules let be recommended.")
    left_out: dict[str, int] = Field(description="How many items each rule leaves out by itself.")
    items: dict[str, list[str]] = Field(description="Items of the answer that rules moved, and which rules.")
    notes: list[str] = Field(description="What could not be done, and what caps moved.")
    warnings: list[str] = Field(description="What in the rules means nothing to this model.")


class ModelResponse(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model: str
    version: str = Field(description="Of the bundle that answered; changes with a reload.")


class RecommendResponse(ModelResponse):
    request_id: str = Field(
        description="Of this answer; POST /v1/feedback takes it back. It is the header x-request-id, unless the client "
        "has sent an id of its own."
    )
    variant: str | None = Field(description="The model that the user's traffic goes to; null where nothing was split.")
    items: list[ScoredItem] = Field(description="Best first; fewer than k where fewer are left.")
    unknown: list[str] = Field(description="Ids of the request that the model does not know; they were left out.")
    used: int = Field(description="Items of the history that the model knows.")
    rules: AppliedRules | None = Field(None, description="With explain_rules, where the service has rules.")


class SimilarResponse(ModelResponse):
    item: Item
    by: str
    items: list[ScoredItem]
    unknown: list[str] = Field(description="Ids of allow and deny that the model does not know.")


class HistoryEffect(Item):
    """One item of the history, and what the explained score loses without it."""

    position: int = Field(description="In the history as it was sent, from 0.")
    effect: float = Field(
        description="What this item adds: the score above the mean of all items, with the whole history minus without "
        "this item. Effects do not add up to the score, as items act together."
    )
    rank_without: int | None = Field(description="Rank of the explained item without this one, where it is known.")


class ModalityEffect(BaseModel):
    """What a score loses when the item is scored as if it did not have this modality."""

    modality: str
    present: bool = Field(description="Whether the item has this.")
    effect: float = Field(description="Score minus the score if the item did not have it.")


class SharedField(BaseModel):
    """A field in which two items are the same, at least in part."""

    field: str = Field(description="Name of a column of the catalogue.")
    values: list[str] = Field(description="What both items have; of a category path the part that both begin with.")


class SourceEffect(BaseModel):
    source: str = Field(
        description="By which the two are alike: co-occurrence (often taken together), or the name of features."
    )
    cosine: float
    effect: float = Field(description="What is added to the score.")


class Neighbour(Item):
    """One of the newest items of the history that the explained item is a neighbour of."""

    position: int = Field(description="In the history as it was sent, from 0.")
    lag: int = Field(description="1 for the newest item that the model knows.")
    effect: float = Field(description="What is added to the score: the sum over the sources.")
    sources: list[SourceEffect] = Field(description="The largest effect first.")
    shared: list[SharedField] = Field(
        description="What the two have in common in the catalogue; values that most items have are left out."
    )


class ExplainResponse(ModelResponse):
    item: Item
    score: float
    above_mean: float | None = Field(description="The score above the mean of all items, where that is known.")
    rank: int | None = Field(description="Among all items but the history's, from 1; null where it is not known.")
    history: list[HistoryEffect] = Field(description="In the order of the history; the newest items where it is long.")
    modalities: list[ModalityEffect] | None = Field(description="Null where the model has no modalities to take apart.")
    neighbours: list[Neighbour] | None = Field(
        description="What the item gets for being like the newest items of the history, the largest effect first. "
        "Their effects are parts of the score and add up. Null where the model has no neighbours."
    )
    notes: list[str] = Field(description="What this explanation leaves out, in sentences.")
    unknown: list[str]


class ItemPage(BaseModel):
    items: list[Item]
    total: int = Field(description="How many items match.")


class NeighbourSource(BaseModel):
    source: str = Field(description="co-occurrence (the training log), or the name of features.")
    weights: list[float] = Field(
        description="What a cosine counts, for the newest item of a history, the one before ..."
    )
    coverage: float = Field(description="Share of the items that have neighbours by this source.")


class ModelFacts(BaseModel):
    name: str
    kind: str = Field(description="sasrec, popularity, mllm ...")
    version: str
    items: int
    modalities: list[str]
    objective: str | None = Field(description="What it was trained or aligned with.")
    retriever: str | None = Field(description="Of a cascade: the model that proposes what this one re-ranks.")
    metrics: dict[str, Any]
    features: list[str] = Field(description="Besides 'model', what /v1/similar can compare by.")
    neighbours: list[NeighbourSource] | None = Field(
        description="Whose nearest items add to the scores; null where the model has none."
    )
    fields: list[str] = Field(description="Of the catalogue, for only and without.")
    explains: bool
    reads_times: bool = Field(description="Whether answers depend on history_times.")
    diversifies: bool = Field(description="Whether it has item vectors, which diversity needs.")
    compares: bool = Field(description="Whether /v1/similar can compare by the model itself.")


class FieldValue(BaseModel):
    value: str
    items: int = Field(description="How many items have it.")


class FieldSummary(BaseModel):
    """A field of the catalogue, as conditions can name it."""

    name: str
    kind: Literal["text", "number"] = Field(description="Numbers can be compared: price<20.")
    low: float | None = Field(description="The smallest number.")
    high: float | None = Field(description="The largest number.")
    values: list[FieldValue] = Field(description="Frequent values of a text, the most frequent first.")


class Fields(BaseModel):
    fields: list[FieldSummary]


class Models(BaseModel):
    models: list[ModelFacts] = Field(description="The first is the default.")


class Block(BaseModel):
    """A block of a user's history, and the preference as it was written after it."""

    items: list[Item]
    text: str


class Person(BaseModel):
    id: str
    history: list[Item] = Field(description="Oldest first.")
    held_out: list[Item] = Field(description="What the user really took next.")
    preference: list[Block] = Field(description="The written preference as it grew; empty where there is none.")


class People(BaseModel):
    users: list[Person]


class ErrorBody(BaseModel):
    code: str
    message: str
    remedy: str | None = None


class Failure(BaseModel):
    """Every error has this form."""

    error: ErrorBody


class Health(BaseModel):
    status: Literal["ok", "loading", "stopping"]


class ReloadResponse(BaseModel):
    models: list[str]
    changed: list[str] = Field(description="Models whose version is another now.")
